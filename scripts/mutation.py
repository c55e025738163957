#!/usr/bin/env python3
"""Would a test notice? Changes the code in small ways, one at a time, and runs the unit tests of the place.

    scripts/mutation.py                         a sample of each place, by a seed that is said
    scripts/mutation.py --all store/rows        every mutant of one place
    scripts/mutation.py --only store/rows:57:2  one of them again, with pytest's words and the change

A mutant that no test fails for *survived*: either a test is missing, or the change means nothing (a limit that is off
by one where nobody can see it). Each runs in a copy of the project; nothing here is changed. Two copies work side by
side. ``PLACES`` says what is mutated, and which tests have to notice; one that makes them run on and on is noticed too.

Of those tests only the ones that run the changed statement can notice. Which they are is noted once, while they run
without a change (``mutation_trace.py``); the quickest comes first. Where no test runs it, none has to be tried. What
runs at import (a constant, a default) is every test's.

Own code because what there is (mutmut, cosmic-ray) runs one test command for all places, or changes files in place.

Ends with 0, with 1 when the score is below --fail-under, with 2 when the tests of a place fail without any change.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import queue
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "hk_tick_collector"
_RULES = (
    "unit/test_continuity*.py",
    "unit/sources/test_odd_days.py",
    "unit/sources/test_numberings.py",
    "unit/sources/test_pulled.py",
    "unit/sources/test_pulls.py",
    "unit/sources/test_interruptions.py",
)
_COVERAGE = (
    "unit/test_store_coverage.py",
    "unit/test_store_gaps.py",
    "unit/test_store_positions.py",
    "unit/test_store_replay.py",
    "unit/test_store_totals.py",
    "unit/test_absence.py",
    "unit/sources/test_interruptions.py",
)
# Module: the tests that have to notice, files or patterns under tests/.
PLACES: dict[str, tuple[str, ...]] = {
    "sources/continuity": ("unit/test_continuity*.py", "unit/sources/test_*.py"),
    # The rules of continuity, for one symbol, one answer and all symbols together.
    "sources/track": _RULES,
    "sources/judging": _RULES,
    "sources/numbering": _RULES,
    "sources/holes": _RULES,
    "sources/pulled": _RULES,
    "sources/memory": _RULES,
    "sources/identities": ("unit/sources/test_identities.py",),
    "records/views": (
        "unit/sources/test_odd_days.py",
        "unit/test_mapping.py",
        "unit/test_store_views.py",
        "unit/test_store_coverage.py",
    ),
    "store/coverage": _COVERAGE,
    "store/symbol_coverage": _COVERAGE,
    "store/verdict": (
        "unit/test_verdict.py",
        *_COVERAGE,
        "unit/test_certificate.py",
        "unit/test_unseen_beginning.py",
    ),
    "store/judging": (*_COVERAGE, "unit/test_certificate.py", "unit/test_unseen_beginning.py"),
    "store/numbering": ("unit/sources/test_numberings.py", "unit/test_store_coverage.py"),
    "store/rows": (
        "unit/test_store_identity.py",
        "unit/test_store_views.py",
        "unit/test_store_coverage.py",
        "unit/test_store_totals.py",
    ),
    "store/neighbours": ("unit/test_store_identity.py", "unit/test_store_coverage.py"),
    "store/copying": ("unit/test_store_identity.py", "unit/test_store_salvage.py", "unit/test_archive.py"),
    "ingest/spill": ("unit/test_spill.py", "unit/test_spill_model.py"),
    "archive/retain": ("unit/test_archive.py", "unit/test_retain*.py"),
    "quality/certificate": ("unit/test_certificate.py",),
}
SAMPLE = 12  # of each place
WORKERS = 2
SLOWER = 4  # a mutant may take so many times what the tests take without one, and
LONGER_SEC = 20
NO_TEST = "no test runs it"
_LEFT_OUT = shutil.ignore_patterns(".git", ".venv", ".*cache", ".hypothesis", "__pycache__", "*.egg-info", "kept")

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.Div: ast.Mult,
    ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.Mod: ast.Mult,
}  # fmt: skip


_Path = tuple[tuple[str, int | None], ...]


@dataclass(frozen=True)
class Mutant:
    """One change: the ``number``-th of those of a line."""

    place: str
    line: int
    number: int
    before: str
    after: str
    path: _Path = field(repr=False, compare=False)  # to the node in the module's tree
    change: ast.AST = field(repr=False, compare=False)  # what stands there instead

    @property
    def name(self) -> str:
        """How --only calls it."""
        return f"{self.place}:{self.line}:{self.number}"

    def applied_to(self, source: str) -> str:
        """The whole module with the change."""
        tree = ast.parse(source)
        node: ast.AST = tree
        for name, index in self.path[:-1]:
            value = getattr(node, name)
            node = value if index is None else value[index]
        name, index = self.path[-1]
        if index is None:
            setattr(node, name, self.change)
        else:
            getattr(node, name)[index] = self.change
        return ast.unparse(ast.fix_missing_locations(tree))


def mutants_of(place: str, source: str) -> list[Mutant]:
    """Every mutant of a module, by line."""
    tree = ast.parse(source)
    found_mutants: list[Mutant] = []
    lines: dict[int, int] = {}
    for path, node in _walk(tree, ()):
        for change in _changes(node):
            line = node.lineno
            number = lines[line] = lines.get(line, 0) + 1
            before, after = (ast.unparse(part).splitlines()[0] for part in (node, change))
            found_mutants.append(Mutant(place, line, number, before, after, path, change))
    return sorted(found_mutants, key=lambda mutant: (mutant.line, mutant.number))


def _walk(node: ast.AST, path: _Path) -> Iterator[tuple[_Path, ast.expr | ast.stmt]]:
    """What may be changed: no annotation, docstring, assertion or line for the log, nothing for the type checker."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        items = list(enumerate(value)) if isinstance(value, list) else [(None, value)]
        for index, child in items:
            if not isinstance(child, ast.AST) or _is_left_alone(child):
                continue
            below = (*path, (name, index))
            if isinstance(child, (ast.expr, ast.stmt)):
                yield below, child
            yield from _walk(child, below)


def _is_left_alone(node: ast.AST) -> bool:
    if isinstance(node, (ast.Import, ast.ImportFrom, ast.Assert, ast.JoinedStr)):
        return True
    if isinstance(node, ast.If):
        return ast.unparse(node.test) == "TYPE_CHECKING"
    if isinstance(node, ast.Expr):
        is_text = isinstance(node.value, ast.Constant)
        return is_text or "log" in ast.unparse(node.value).partition("(")[0].lower()
    return isinstance(node, ast.Call) and ast.unparse(node.func) in ("event", "TypeVar", "field")


def _changes(node: ast.expr | ast.stmt) -> Iterator[ast.expr | ast.stmt]:  # noqa: C901, PLR0912 - one case a kind
    match node:
        case ast.Compare(ops=[op]) if type(op) in _COMPARISONS:
            changed = deepcopy(node)
            changed.ops = [_COMPARISONS[type(op)]()]
            yield changed
        case ast.BoolOp(op=op, values=values):
            changed = deepcopy(node)
            changed.op = ast.Or() if isinstance(op, ast.And) else ast.And()
            yield changed
            for n in range(len(values)):
                rest = [deepcopy(value) for value in values if value is not values[n]]
                yield rest[0] if len(rest) == 1 else ast.copy_location(ast.BoolOp(deepcopy(op), rest), node)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield deepcopy(operand)
        case ast.BinOp(op=operator) if type(operator) in _OPERATORS:
            changed = deepcopy(node)
            changed.op = _OPERATORS[type(operator)]()
            yield changed
        case ast.AugAssign(op=operator) if type(operator) in _OPERATORS:
            changed = deepcopy(node)
            changed.op = _OPERATORS[type(operator)]()
            yield changed
            yield ast.copy_location(ast.Pass(), node)
        case ast.Constant(value=bool(value)):
            yield ast.copy_location(ast.Constant(not value), node)
        case ast.Constant(value=int(value)):
            yield ast.copy_location(ast.Constant(value + 1), node)
        case ast.If() | ast.While() | ast.IfExp():
            changed = deepcopy(node)
            changed.test = ast.copy_location(ast.UnaryOp(ast.Not(), changed.test), node.test)
            yield changed
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield ast.copy_location(ast.Return(ast.Constant(None)), node)
        case ast.Expr(value=ast.Call() | ast.Await()) | ast.Delete():
            yield ast.copy_location(ast.Pass(), node)
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield ast.copy_location(ast.Pass(), node)
        case ast.Continue():
            yield ast.copy_location(ast.Break(), node)
        case ast.Break():
            yield ast.copy_location(ast.Continue(), node)


class Runs(NamedTuple):
    """What the tests of a place run of it, without a change."""

    start_sec: float = 0.0  # that pytest takes besides the tests
    tests: Mapping[str, tuple[float, frozenset[int]]] = {}  # seconds, and the lines of the place

    def limit_sec(self, tests: Sequence[str]) -> float:
        """How long these may take with a mutant."""
        return SLOWER * (self.start_sec + sum(self.tests[test][0] for test in tests)) + LONGER_SEC


def tests_of(mutant: Mutant, source: str, runs: Runs) -> list[str]:
    """The tests that run what was changed, the quickest first; all of them for what runs at import."""
    statement, function = _around(ast.parse(source), mutant)
    if function is None:
        chosen = list(runs.tests)
    else:
        chosen = [test for test, (_, lines) in runs.tests.items() if not lines.isdisjoint(statement)]
    return sorted(chosen, key=lambda test: runs.tests[test][0])


def _around(tree: ast.AST, mutant: Mutant) -> tuple[range, range | None]:
    """The lines of the statement that a mutant is in (of one with a body, of its head), and of the body of its
    function; None at import."""
    node, statement, function = tree, range(0), None
    for name, index in mutant.path:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and name == "body":
            function = range(node.body[0].lineno, (node.end_lineno or node.lineno) + 1)
        value = getattr(node, name)
        node = value if index is None else value[index]
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            last = body[0].lineno - 1 if body else node.end_lineno or node.lineno
            statement = range(node.lineno, max(last, node.lineno) + 1)
    return statement, function


class Copy:
    """A copy of the project that one worker changes and tests."""

    def __init__(self, directory: Path) -> None:
        self.root = directory
        shutil.copytree(ROOT, directory, ignore=_LEFT_OUT, dirs_exist_ok=True)

    def trace(self, places: Sequence[str]) -> tuple[int | None, str, dict[str, Runs]]:
        """The tests of places that have the same ones, without a change: pytest's exit code and last words, and by
        place what each test runs of it."""
        modules = {str(self.root / PACKAGE / f"{place}.py"): place for place in places}
        noted = self.root / "traced.json"
        env = {"MUTATION_TRACED": json.dumps(list(modules)), "MUTATION_NOTED": str(noted)}
        began_sec = time.monotonic()
        # Traced, on a busy machine, a test takes minutes: what changes nothing does not hang.
        arguments = ["-p", "mutation_trace", "-o", "timeout=0", *self.files_of(places[0])]
        code, words = self._pytest(arguments, None, env)
        if code != 0:
            return code, words, {}
        tests = json.loads(noted.read_text())
        start_sec = time.monotonic() - began_sec - sum(took_sec for _, took_sec, _ in tests)
        return (
            code,
            words,
            {
                place: Runs(start_sec, {name: (sec, frozenset(lines.get(module, ()))) for name, sec, lines in tests})
                for module, place in modules.items()
            },
        )

    def files_of(self, place: str) -> list[str]:
        """The test modules of a place."""
        return sorted({str(file) for pattern in PLACES[place] for file in (self.root / "tests").glob(pattern)})

    def test(self, tests: Sequence[str], timeout_sec: float | None) -> tuple[int | None, str]:
        """pytest's exit code over these tests, None when it took too long; and its last words."""
        return self._pytest(list(tests), timeout_sec, {})

    def _pytest(
        self, arguments: list[str], timeout_sec: float | None, more_env: dict[str, str]
    ) -> tuple[int | None, str]:
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *arguments]
        path = f"{self.root}{os.pathsep}{Path(__file__).parent}"
        env = {**os.environ, "HYPOTHESIS_PROFILE": "mutation", "PYTHONPATH": path, **more_env}
        try:
            done = subprocess.run(
                command, cwd=self.root, env=env, capture_output=True, text=True, timeout=timeout_sec, check=False
            )
        except subprocess.TimeoutExpired:
            return None, "took too long"
        return done.returncode, done.stdout[-2000:] + done.stderr[-2000:]

    def survives(self, mutant: Mutant, runs: Runs) -> tuple[bool, str]:
        """Does no test notice? The module is as before afterwards."""
        path = self.root / PACKAGE / f"{mutant.place}.py"
        genuine = path.read_text()
        tests = tests_of(mutant, genuine, runs)
        if not tests:
            return True, NO_TEST
        try:
            path.write_text(mutant.applied_to(genuine))
            # Its bytecode is found by time and size, which the next change may share.
            shutil.rmtree(path.parent / "__pycache__", ignore_errors=True)
            code, words = self.test(tests, runs.limit_sec(tests))
        finally:
            path.write_text(genuine)
            shutil.rmtree(path.parent / "__pycache__", ignore_errors=True)
        return code == 0, words


@dataclass
class Score:
    """What became of a place's mutants."""

    mutants: int  # that there are
    tried: int = 0
    noticed: int = 0

    @property
    def percent(self) -> float:
        """Of those tried."""
        return 100 * self.noticed / self.tried if self.tried else 100.0


def run(chosen: Sequence[Mutant], directory: Path, scores: dict[str, Score]) -> list[Mutant]:
    """Try them all; those that survived. A place whose tests fail without a change is left out, and said."""
    copies = [Copy(directory / str(n)) for n in range(min(WORKERS, len(chosen)))]
    traced = _traced(copies[0], list(dict.fromkeys(mutant.place for mutant in chosen)))
    work: queue.SimpleQueue[Mutant] = queue.SimpleQueue()
    for mutant in chosen:
        if traced[mutant.place].tests:
            work.put(mutant)
    survivors: list[Mutant] = []
    lock = threading.Lock()

    def worker(copy: Copy) -> None:
        while True:
            try:
                mutant = work.get_nowait()
            except queue.Empty:
                return
            survived, words = copy.survives(mutant, traced[mutant.place])
            with lock:
                score = scores[mutant.place]
                score.tried += 1
                score.noticed += not survived
                if survived:
                    survivors.append(mutant)
                outcome = f"{'SURVIVED' if survived else 'noticed '} {mutant.name}: {mutant.before} -> {mutant.after}"
                print(f"{outcome} ({NO_TEST})" if words == NO_TEST else outcome, flush=True)
                if len(chosen) == 1:
                    print(words)

    threads = [threading.Thread(target=worker, args=(copy,)) for copy in copies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(survivors, key=lambda mutant: (mutant.place, mutant.line, mutant.number))


def _traced(copy: Copy, places: Sequence[str]) -> dict[str, Runs]:
    """What the tests of each place run of it; nothing where they fail as the code is. Places with the same tests have
    one trial."""
    by_tests: dict[tuple[str, ...], list[str]] = {}
    for place in places:
        by_tests.setdefault(PLACES[place], []).append(place)
    traced: dict[str, Runs] = {}
    for same in by_tests.values():
        began_sec = time.monotonic()
        code, words, runs = copy.trace(same)
        names = ", ".join(same)
        if code != 0:
            print(f"the tests of {names} fail without any change:\n{words}", file=sys.stderr)
            runs = {}
        else:
            took_sec = time.monotonic() - began_sec
            print(f"the tests of {names} take {took_sec:.0f} s without a change, each statement noted", flush=True)
        traced.update({place: runs.get(place, Runs()) for place in same})
    return traced


def choose(
    places: Sequence[str], sample: int | None, seed: str, only: str | None
) -> tuple[list[Mutant], dict[str, Score]]:
    """The mutants to try, in the order of places, and an empty score for each place."""
    chosen: list[Mutant] = []
    scores: dict[str, Score] = {}
    for place in places:
        mutants = mutants_of(place, (ROOT / PACKAGE / f"{place}.py").read_text())
        scores[place] = Score(len(mutants))
        if only is not None:
            chosen += [mutant for mutant in mutants if mutant.name == only]
        elif sample is None or sample >= len(mutants):
            chosen += mutants
        else:
            # By place, so that a place's sample stays the same whatever else is tried.
            chosen += random.Random(f"{seed}/{place}").sample(mutants, sample)
    return chosen, scores


def report(scores: dict[str, Score], survivors: Sequence[Mutant], seed: str, kind: str) -> str:
    """The result as Markdown."""
    tried, noticed = (sum(getattr(score_of, name) for score_of in scores.values()) for name in ("tried", "noticed"))
    total = Score(sum(score_of.mutants for score_of in scores.values()), tried, noticed)
    lines = [f"Mutation run, {kind}, seed {seed}: {total.percent:.1f} % noticed ({noticed} of {tried})", "",
             "| place | mutants | tried | noticed | score |", "|---|---|---|---|---|"]  # fmt: skip
    lines += [f"| `{place}` | {score_of.mutants} | {score_of.tried} | {score_of.noticed} | {score_of.percent:.1f} % |"
              for place, score_of in scores.items()]  # fmt: skip
    lines += ["", f"{len(survivors)} survived:", ""]
    lines += [f"- `{mutant.name}`: `{mutant.before}` -> `{mutant.after}`" for mutant in survivors]
    return "\n".join(lines)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("places", nargs="*", metavar="PLACE", help=f"of {', '.join(PLACES)}; default: all")
    parser.add_argument("--all", action="store_true", help="every mutant instead of a sample")
    parser.add_argument("--sample", type=int, default=SAMPLE, help="mutants of each place (default: %(default)s)")
    parser.add_argument("--seed", default=time.strftime("%Y%m%d"), help="of the sample (default: the date)")
    parser.add_argument("--only", metavar="PLACE:LINE:N", help="one mutant")
    parser.add_argument("--list", action="store_true", help="name the mutants, and run nothing")
    parser.add_argument("--fail-under", type=float, metavar="PERCENT", help="end with 1 below this score")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the survivors here")
    given = parser.parse_args()
    unknown = [place for place in given.places if place not in PLACES]
    if unknown:
        parser.error(f"no such place: {', '.join(unknown)}; there are {', '.join(PLACES)}")
    places = [given.only.split(":")[0]] if given.only else given.places or list(PLACES)
    chosen, scores = choose(places, None if given.all else given.sample, given.seed, given.only)
    if given.list:
        print("\n".join(f"{mutant.name}: {mutant.before} -> {mutant.after}" for mutant in chosen))
        return 0
    if not chosen:
        parser.error("no such mutant")
    with tempfile.TemporaryDirectory(prefix="mutation-") as directory:
        survivors = run(chosen, Path(directory), scores)
    print(f"\n{report(scores, survivors, given.seed, 'all' if given.all else 'a sample')}")
    if given.json:
        given.json.write_text(
            json.dumps(
                [{"name": mutant.name, "before": mutant.before, "after": mutant.after} for mutant in survivors],
                indent=1,
            )
        )
    if len({mutant.place for mutant in chosen}) > sum(mutant.tried > 0 for mutant in scores.values()):
        return 2
    score = Score(
        0, sum(score_of.tried for score_of in scores.values()), sum(score_of.noticed for score_of in scores.values())
    )
    return 1 if given.fail_under is not None and score.percent < given.fail_under else 0


if __name__ == "__main__":
    sys.exit(main())
