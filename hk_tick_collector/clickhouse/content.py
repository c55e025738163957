"""The content hash of ``days.content``, worked out by ClickHouse itself from the rows that it holds.

64-bit arithmetic wraps there as it does in numpy, and shifts are divisions, which every build of the engine has. The
columns are mixed in one after the other by lambdas over one array of one value: a lambda's argument stands for a value
that is used twice, where an alias or a subquery would be planned anew each time (seconds for 18 columns). The value is
taken out of its array at the end alone: of a small day, planning is nearly all that the question costs. A text counts
by its blake2b digest, which ClickHouse cannot make: it is asked which texts there are, and told their digests. One that
came in between has none, and makes a mismatch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from hk_tick_collector.clickhouse.connection import ClickHouse
from hk_tick_collector.clickhouse.tables import DAY, RECORDER, quoted
from hk_tick_collector.days.content import MIX_NULL, MIX_STEP, SymbolContent
from hk_tick_collector.records.columns import BY_NAME, Arrow, later_than, names_of

_FIRST_VERSION = 1
_MIX_1, _MIX_2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
MEMORY_BYTES = 4 << 30
# The key holds day and recorder, so nothing is to be merged across partitions.
LIMITS = {
    "max_ast_elements": 10_000_000, "max_expanded_ast_elements": 10_000_000, "max_parser_depth": 10_000,
    "do_not_merge_across_partitions_select_final": 1,
}  # fmt: skip
QUERY_BYTES = 64 << 20  # the statement names every text, one of each symbol among them
Texts = Mapping[str, list[str]]


def contents_in(engine: ClickHouse, table: str, day: str, recorder: str) -> dict[str, SymbolContent]:
    """What one recorder's day holds there, by symbol: rows and sums; times and sequences are left out.

    ``table`` is ``ticks`` or its stage. Costs about a second for each million rows. EngineAway, EngineRefused.
    """
    where = f"{DAY} = {quoted(day)} AND {RECORDER} = {quoted(recorder)}"
    source = f"{engine.database}.{table}"
    texts = _texts(engine, source, where)
    if not texts["symbol"]:
        return {}
    sql = _rowsum_sql(source, where, texts, _later_columns(engine, source, where))
    rows = engine.rows(sql, max_query_size=QUERY_BYTES, max_memory_usage=MEMORY_BYTES, **LIMITS)
    return {symbol: SymbolContent(rows=count, sum_1=sum_1, sum_2=sum_2) for symbol, count, sum_1, sum_2 in rows}


def digest(text: str) -> int:
    """As ``days.content`` counts a text."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _text_names() -> list[str]:
    return [column.name for column in BY_NAME.values() if column.arrow is Arrow.TEXT]


def _texts(engine: ClickHouse, source: str, where: str) -> Texts:
    names = _text_names()
    sets = ", ".join(f"groupUniqArray({name})" for name in names)
    ((*set_texts,),) = engine.rows(f"SELECT {sets} FROM {source} WHERE {where}")
    return dict(zip(names, set_texts, strict=True))


def _later_columns(engine: ClickHouse, source: str, where: str) -> list[str]:
    """Those after version 1 that hold anything: the others count for nothing."""
    names = later_than(_FIRST_VERSION)
    counts = ", ".join(f"count({name})" for name in names)
    (value_counts,) = engine.rows(f"SELECT {counts} FROM {source} WHERE {where}")
    return [name for name, count in zip(names, value_counts, strict=True) if count]


def _rowsum_sql(source: str, where: str, texts: Texts, later: list[str]) -> str:
    names = [*names_of(_FIRST_VERSION), *later]
    listed = ", ".join(f"{_value(name, texts)} AS v{n}" for n, name in enumerate(names))
    told = "".join(f", isNull({name}) AS n{n}" for n, name in enumerate(names) if name in later)
    values = f"SELECT symbol, {listed}{told} FROM {source} FINAL WHERE {where}"
    row = "[toUInt64(0)]"
    for n, name in enumerate(names):
        if name in later:  # it counts where it holds a value
            mixed = mixed_sql(f"[h + toUInt64({digest(name)}) + v{n}]")
            row = f"arrayMap(h -> if(n{n}, h, {mixed}[1]), {row})"
        else:
            row = mixed_sql(f"arrayMap(h -> h + v{n} + {MIX_STEP}, {row})")
    rows = f"SELECT symbol, {row} AS h FROM ({values})"
    return f"SELECT symbol, count(), sum(h[1]), sum({mixed_sql('h')}[1]) FROM ({rows}) GROUP BY symbol"


def mixed_sql(values: str) -> str:
    """splitmix64's finalizer, of each value of an array."""
    for factor, shift in ((_MIX_1, 30), (_MIX_2, 27), (1, 31)):
        product = f" * {factor}" if factor != 1 else ""  # so large that it is a UInt64 by itself
        values = f"arrayMap(x -> bitXor(x, intDiv(x, {1 << shift})){product}, {values})"
    return values


def _value(name: str, texts: Texts) -> str:
    """Each value as 64 bits of its own."""
    column = BY_NAME[name]
    bare = f"assumeNotNull({name})"
    if column.arrow is Arrow.TEXT:
        known = texts[name]
        number = f"toUInt64({MIX_NULL})"
        if known:
            digests = ", ".join(f"toUInt64({digest(text)})" for text in known)
            listed = ", ".join(map(quoted, known))
            number = f"transform(toString({bare}), [{listed}], [{digests}], toUInt64(0))"
    elif column.arrow is Arrow.FLOAT64:
        number = f"reinterpretAsUInt64({bare})"
    elif column.arrow is Arrow.UTC_MS:
        number = f"reinterpretAsUInt64(toUnixTimestamp64Milli({bare}))"
    else:
        number = f"reinterpretAsUInt64(toInt64({bare}))"
    return f"if(isNull({name}), toUInt64({MIX_NULL}), {number})" if column.nullable else number
