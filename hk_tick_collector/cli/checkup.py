"""What a check of ``hk-tickctl doctor`` gives, and how checks follow one another.

A check that needs another one which failed, or could not run, is skipped and says which. Whatever a check raises is its
own failure, a package that is not installed among it: the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hk_tick_collector.core.disk import told
from hk_tick_collector.core.errors import RecorderError
from hk_tick_collector.core.extras import extra_with, how_to_install, missing_library

OK, WARN, FAIL, SKIPPED = "ok", "warn", "fail", "skipped"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was found, and what to do about it."""

    result: str  # ok, warn, fail, skipped
    found: str
    advice: str = ""


def ok(finding: str) -> Outcome:
    """As it should be."""
    return Outcome(OK, finding)


def warn(finding: str, advice: str) -> Outcome:
    """The recorder works, but somebody should look."""
    return Outcome(WARN, finding, advice)


def fail(finding: str, advice: str) -> Outcome:
    """The recorder cannot work so, or loses something."""
    return Outcome(FAIL, finding, advice)


def skipped(why: str) -> Outcome:
    """It could not be looked at."""
    return Outcome(SKIPPED, why)


class Checkup:
    """The outcomes so far, by the check's name. ``show`` is called with each as it comes."""

    def __init__(self, show: Callable[[str, Outcome], None]) -> None:
        self._show = show
        self.outcomes: dict[str, Outcome] = {}

    def add(self, name: str, outcome: Outcome) -> None:
        """Note one outcome."""
        self.outcomes[name] = outcome
        self._show(name, outcome)

    def run(self, name: str, check: Callable[[], Outcome], needs: Sequence[str] = ()) -> None:
        """Run a check, unless one that it needs did not pass."""
        why = self.obstacle(needs)
        if why is not None:
            self.add(name, skipped(why))
            return
        try:
            outcome = check()
        except (RecorderError, OSError) as exc:
            outcome = failure(exc)
        except ModuleNotFoundError as exc:
            library = missing_library(exc)
            outcome = fail(f"the package {library} is not installed", how_to_install(extra_with(library)))
        self.add(name, outcome)

    def obstacle(self, needs: Sequence[str]) -> str | None:
        """Why a check with these needs cannot run; None when it can. A check not run yet stands in nobody's way."""
        for need in needs:
            before = self.outcomes.get(need)
            if before is not None and before.result in (FAIL, SKIPPED):
                return f"needs {need}, which {'failed' if before.result == FAIL else 'was skipped'}"
        return None

    def named(self, result: str) -> list[str]:
        """The checks with this result."""
        return [name for name, outcome in self.outcomes.items() if outcome.result == result]

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "fine": not self.named(FAIL),
            "failed": self.named(FAIL),
            "warned": self.named(WARN),
            "skipped": self.named(SKIPPED),
            "checks": [{"name": name, **asdict(outcome)} for name, outcome in self.outcomes.items()],
        }


def failure(exc: Exception) -> Outcome:
    """What a check raised, as its outcome."""
    text = told(exc) if isinstance(exc, OSError) else str(exc)
    return fail(text, "correct that, and run doctor again")
