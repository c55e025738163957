"""What a check found, as numbers and as text for people and for programs."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field, replace

from hk_tick_collector.opend_sim.venue import venue_of

EXAMPLES = 10  # of each kind of difference
SHOWN_SYMBOLS = 20


@dataclass
class SymbolDiff:
    """Differences of one symbol, in rows."""

    missing: int = 0  # made, must be stored, is not
    extra: int = 0  # stored, never made
    wrong: int = 0  # stored with another value than made
    duplicate: int = 0  # stored a second time, under another sequence or in another file

    def total(self) -> int:
        return self.missing + self.extra + self.wrong + self.duplicate


@dataclass
class CheckReport:
    """Made against stored. ``exit_code`` is 0 when nothing differs, 1 when something does, 3 when there was nothing
    to compare."""

    truth_path: str
    data_root: str
    day_files: list[str] = field(default_factory=list)
    made_rows: int = 0  # in the truth file
    required_rows: int = 0  # of these, what must be stored
    stored_rows: int = 0  # in the day files
    matched_rows: int = 0  # stored as made
    excused_rows: int = 0  # made and not stored, but not required: history, before --since-ms, in the tail
    unsettled_rows: int = 0  # stored and not (yet) in the truth file, in the tail
    repeated_truth_rows: int = 0  # same symbol and sequence twice in the truth file
    symbols: dict[str, SymbolDiff] = field(default_factory=dict)
    wrong_fields: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    seen_examples: Counter[str] = field(default_factory=Counter)

    def of(self, symbol: str) -> SymbolDiff:
        return self.symbols.setdefault(symbol, SymbolDiff())

    def example(self, kind: str, text: str) -> None:
        """Keep the first few examples of a kind of difference."""
        self.seen_examples[kind] += 1
        if self.seen_examples[kind] <= EXAMPLES:
            self.examples.append(f"{kind}: {text}")

    def total(self) -> SymbolDiff:
        """All symbols together."""
        rows = list(self.symbols.values())
        return SymbolDiff(
            sum(row.missing for row in rows),
            sum(row.extra for row in rows),
            sum(row.wrong for row in rows),
            sum(row.duplicate for row in rows),
        )

    @property
    def has_data(self) -> bool:
        return self.made_rows > 0 and bool(self.day_files)

    @property
    def clean(self) -> bool:
        return self.has_data and self.total().total() == 0

    @property
    def exit_code(self) -> int:
        if not self.has_data:
            return 3
        return 0 if self.clean else 1

    def text(self) -> str:
        """For people: verdict, totals, the symbols that differ most, examples."""
        if not self.has_data:
            lack = f"no tick in {self.truth_path}" if not self.made_rows else f"no day file in {self.data_root}"
            return f"NO DATA: {lack}, nothing was compared"
        total = self.total()
        lines = [
            f"{'OK' if self.clean else 'DIFFERENCES'}: made {self.made_rows}, required {self.required_rows}, "
            f"stored {self.stored_rows}, matched {self.matched_rows}",
            f"missing {total.missing}, extra {total.extra}, wrong {total.wrong}, duplicate {total.duplicate}; "
            f"excused {self.excused_rows}, unsettled {self.unsettled_rows}",
        ]
        if self.repeated_truth_rows:
            lines.append(f"the truth file itself repeats {self.repeated_truth_rows} sequences")
        if self.wrong_fields:
            lines.append("wrong values: " + ", ".join(f"{n} {name}" for name, n in self.wrong_fields.most_common()))
        worst = sorted((s for s in self.symbols.items() if s[1].total()), key=lambda item: -item[1].total())
        if worst:
            lines.append(f"{'symbol':<10} {'missing':>9} {'extra':>9} {'wrong':>9} {'duplicate':>9}")
        for symbol, diff in worst[:SHOWN_SYMBOLS]:
            lines.append(f"{symbol:<10} {diff.missing:>9} {diff.extra:>9} {diff.wrong:>9} {diff.duplicate:>9}")
        if len(worst) > SHOWN_SYMBOLS:
            lines.append(f"... and {len(worst) - SHOWN_SYMBOLS} symbols more")
        return "\n".join(lines + self.examples)

    def to_json(self) -> str:
        """For programs: one JSON object; ``symbols`` holds only those that differ."""
        # asdict would rebuild the Counter from pairs, and make the pairs its keys (Python 3.11).
        content = asdict(replace(self, wrong_fields=Counter()))
        content["wrong_fields"] = dict(self.wrong_fields)
        content.pop("seen_examples")
        content["symbols"] = {name: asdict(diff) for name, diff in sorted(self.symbols.items()) if diff.total()}
        content |= {"clean": self.clean, "exit_code": self.exit_code, **asdict(self.total())}
        return json.dumps(content)


def market_time(symbol: str, ts_ms: int | None) -> str:
    """Milliseconds as date and time of the symbol's market for a message; what is no time comes back as it is."""
    if not isinstance(ts_ms, int) or not 0 <= ts_ms < 1 << 42:
        return str(ts_ms)
    return f"{venue_of(symbol).market.zone.date_and_clock(ts_ms)}.{ts_ms % 1000:03d}"
