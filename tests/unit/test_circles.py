"""No module imports, round about, itself: what one module means can be read without the others' that need it.

Imports for the type checker, imports inside functions and modules that a text names (``import_module``) count: they
tie two modules as firmly for a reader.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TREES = ("hk_tick_collector", "benchmarks")

Edges = set[tuple[str, str]]


def modules_of(root: Path) -> dict[str, Path]:
    path_of = {}
    for path in (path for tree in TREES for path in (root / tree).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        path_of[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return path_of


def told_in(source: str) -> Iterator[ast.AST]:
    """What may tell of a module: statements, and texts where one begins as a module's name does."""
    pending: list[ast.AST] = [ast.parse(source)]
    if any(f"{quote}{tree}" in source for tree in TREES for quote in "'\""):
        yield from ast.walk(pending[0])
        return
    while pending:
        node = pending.pop()
        yield node
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            below = getattr(node, field, [])
            pending += below if isinstance(below, list) else []


def imports_of(module: str, source: str, modules: dict[str, Path]) -> Edges:
    edges: Edges = set()
    for node in told_in(source):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in modules else node.module for name in inner]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = [node.value]
        edges |= {(module, name) for name in names if name in modules and name != module}
    return edges


def edges_of(root: Path) -> Edges:
    modules = modules_of(root)
    return {edge for module, path in modules.items() for edge in imports_of(module, path.read_text(), modules)}


def circles(edges: Edges) -> set[str]:
    """The modules that are left when those which import nothing, or which nobody imports, are taken away in turn."""
    while True:
        importing, imported = {edge_from for edge_from, _ in edges}, {other for _, other in edges}
        rest = {(edge_from, other) for edge_from, other in edges if edge_from in imported and other in importing}
        if rest == edges:
            return importing
        edges = rest


def test_no_module_imports_itself_round_about():
    assert len(modules_of(ROOT)) > 200
    assert circles(edges_of(ROOT)) == set()


def test_a_circle_is_found(tmp_path):
    package = tmp_path / "hk_tick_collector"
    package.mkdir()
    (package / "a.py").write_text("from hk_tick_collector import b\n")
    (package / "b.py").write_text("if TYPE_CHECKING:\n    from hk_tick_collector.c import C\n")
    (package / "c.py").write_text("def early():\n    import hk_tick_collector.b\n")
    assert circles(edges_of(tmp_path)) == {"hk_tick_collector.b", "hk_tick_collector.c"}
    (package / "c.py").write_text("def late():\n    import_module('hk_tick_collector.a')\n")
    assert len(circles(edges_of(tmp_path))) == 3
