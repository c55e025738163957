"""No module imports, round about, itself: what one module means can be read without the others' that need it.

Imports for the type checker count: they tie two modules as firmly for a reader. An import inside a function may close a
circle only where it is listed below with its reason.
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TREES = ("hk_tick_collector", "benchmarks")
LATE = {
    # Arrow takes 50 MB and a third of a second; a question that no column answers does without.
    ("hk_tick_collector.days.catalog", "hk_tick_collector.days.rows"),
    ("hk_tick_collector.days.union", "hk_tick_collector.days.union_rows"),
    ("hk_tick_collector.client.api", "hk_tick_collector.client.outputs"),
}

Edges = set[tuple[str, str]]


def modules_of(root: Path) -> dict[str, Path]:
    path_of = {}
    for path in (path for tree in TREES for path in (root / tree).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        path_of[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return path_of


def imports_of(module: str, tree: ast.AST, modules: dict[str, Path], *, inside_functions: bool) -> Edges:
    edges: Edges = set()
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not inside_functions:
            continue
        pending += ast.iter_child_nodes(node)
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in modules else node.module for name in inner]
        edges |= {(module, name) for name in names if name in modules and name != module}
    return edges


def edges_of(root: Path, *, inside_functions: bool) -> Edges:
    modules = modules_of(root)
    return {
        edge
        for module, path in modules.items()
        for edge in imports_of(module, ast.parse(path.read_text()), modules, inside_functions=inside_functions)
    }


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
    assert circles(edges_of(ROOT, inside_functions=False)) == set()


def test_imports_inside_functions_close_no_circle_but_the_listed():
    edges = edges_of(ROOT, inside_functions=True)
    assert edges >= LATE
    assert circles(edges - LATE) == set()
    assert {module for edge in LATE for module in edge} <= circles(edges)  # a reason that is no longer needed goes


def test_a_circle_is_found(tmp_path):
    package = tmp_path / "hk_tick_collector"
    package.mkdir()
    (package / "a.py").write_text("from hk_tick_collector import b\n")
    (package / "b.py").write_text("if TYPE_CHECKING:\n    from hk_tick_collector.c import C\n")
    (package / "c.py").write_text("def late():\n    import hk_tick_collector.a\n")
    assert circles(edges_of(tmp_path, inside_functions=False)) == set()
    assert len(circles(edges_of(tmp_path, inside_functions=True))) == 3
