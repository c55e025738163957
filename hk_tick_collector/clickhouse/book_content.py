"""The content hash of ``days.book_content``, worked out by ClickHouse itself from the order books that it holds."""

from __future__ import annotations

from hk_tick_collector.clickhouse.connection import ClickHouse
from hk_tick_collector.clickhouse.content import LIMITS, MEMORY_BYTES, QUERY_BYTES, digest, mixed_sql
from hk_tick_collector.clickhouse.tables import DAY, RECORDER, book_columns, quoted
from hk_tick_collector.days.book_content import CHAINED, SUMMED, factor_of
from hk_tick_collector.days.books import PAYLOAD
from hk_tick_collector.days.content import MIX_NULL, MIX_STEP, SymbolContent


def book_contents_in(engine: ClickHouse, table: str, day: str, recorder: str) -> dict[str, SymbolContent]:
    """What one recorder's day of books holds there, by symbol: rows and sums. EngineAway, EngineRefused."""
    where = f"{DAY} = {quoted(day)} AND {RECORDER} = {quoted(recorder)}"
    source = f"{engine.database}.{table}"
    texts = {}
    for name in ("symbol", "kind"):
        texts[name] = [text for (text,) in engine.rows(f"SELECT DISTINCT {name} FROM {source} WHERE {where}")]
    if not texts["symbol"]:
        return {}
    sql = _rowsum_sql(source, where, texts)
    rows = engine.rows(sql, max_query_size=QUERY_BYTES, max_memory_usage=MEMORY_BYTES, **LIMITS)
    return {symbol: SymbolContent(rows=count, sum_1=sum_1, sum_2=sum_2) for symbol, count, sum_1, sum_2 in rows}


def _rowsum_sql(source: str, where: str, texts: dict[str, list[str]]) -> str:
    kinds = book_columns()
    total = " + ".join(f"{_value(name, kinds[name], texts)} * toUInt64({factor_of(name)})" for name in SUMMED)
    listed = ", ".join(f"{_value(name, kinds[name], texts)} AS v{n}" for n, name in enumerate(CHAINED))
    values = f"SELECT symbol, {total} AS total, {listed} FROM {source} WHERE {where}"
    row = mixed_sql(f"total + toUInt64({MIX_STEP})")
    for n in range(len(CHAINED)):
        row = mixed_sql(f"{row} + toUInt64({MIX_STEP}) + v{n}")
    rows = f"SELECT symbol, {row} AS h FROM ({values})"
    return f"SELECT symbol, count(), sum(h), sum({mixed_sql('h')}) FROM ({rows}) GROUP BY symbol"


def _value(name: str, kind: str, texts: dict[str, list[str]]) -> str:
    """Each value as 64 bits of its own."""
    bare = f"assumeNotNull({name})"
    if name in texts:
        digests = ", ".join(f"toUInt64({digest(text)})" for text in texts[name])
        number = f"transform(toString({bare}), [{', '.join(map(quoted, texts[name]))}], [{digests}], toUInt64(0))"
    elif name == PAYLOAD:
        number = f"toUInt64(CRC32({bare})) + toUInt64(length({bare})) * toUInt64({1 << 32})"
    elif "DateTime64(6" in kind:
        number = f"reinterpretAsUInt64(toUnixTimestamp64Micro({bare}))"
    elif "DateTime64" in kind:
        number = f"reinterpretAsUInt64(toUnixTimestamp64Milli({bare}))"
    else:
        number = f"reinterpretAsUInt64({bare})"
    return f"if(isNull({name}), toUInt64({MIX_NULL}), {number})" if kind.startswith("Nullable") else number
