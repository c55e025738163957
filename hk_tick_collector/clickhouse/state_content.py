"""The content hash of ``days.state_content``, worked out by ClickHouse itself from the order books, or the broker
queues, or the snapshots, that it holds."""

from __future__ import annotations

from hk_tick_collector.clickhouse.connection import ClickHouse
from hk_tick_collector.clickhouse.content import LIMITS, MEMORY_BYTES, QUERY_BYTES, digest, mixed_sql
from hk_tick_collector.clickhouse.tables import DAY, RECORDER, StateTables, quoted
from hk_tick_collector.days.content import MIX_NULL, MIX_STEP, SymbolContent
from hk_tick_collector.days.stored_states import stored_of


def state_contents_in(
    engine: ClickHouse, states: StateTables, table: str, day: str, recorder: str
) -> dict[str, SymbolContent]:
    """What one recorder's day holds in a table that is made as ``states.rows`` is, by symbol: rows and sums.
    EngineAway, EngineRefused."""
    where = f"{DAY} = {quoted(day)} AND {RECORDER} = {quoted(recorder)}"
    source = f"{engine.database}.{table}"
    texts: dict[str, list[str]] = {}
    for name in [name for name in stored_of(states.kind).chained if "LowCardinality" in states.columns[name]]:
        texts[name] = [text for (text,) in engine.rows(f"SELECT DISTINCT {name} FROM {source} WHERE {where}")]
    if not texts["symbol"]:
        return {}
    sql = _rowsum_sql(states, source, where, texts)
    rows = engine.rows(sql, max_query_size=QUERY_BYTES, max_memory_usage=MEMORY_BYTES, **LIMITS)
    return {symbol: SymbolContent(rows=count, sum_1=sum_1, sum_2=sum_2) for symbol, count, sum_1, sum_2 in rows}


def _rowsum_sql(states: StateTables, source: str, where: str, texts: dict[str, list[str]]) -> str:
    kinds, stored = states.columns, stored_of(states.kind)
    summed = [f"{_value(name, kinds[name], texts)} * toUInt64({stored.factor_of(name)})" for name in stored.summed]
    total = " + ".join(summed) or "toUInt64(0)"
    listed = ", ".join(f"{_value(name, kinds[name], texts)} AS v{n}" for n, name in enumerate(stored.chained))
    values = f"SELECT symbol, {total} AS total, {listed} FROM {source} WHERE {where}"
    row = mixed_sql(f"[total + {MIX_STEP}]")
    for n in range(len(stored.chained)):
        row = mixed_sql(f"arrayMap(h -> h + {MIX_STEP} + v{n}, {row})")
    rows = f"SELECT symbol, {row} AS h FROM ({values})"
    return f"SELECT symbol, count(), sum(h[1]), sum({mixed_sql('h')}[1]) FROM ({rows}) GROUP BY symbol"


def _value(name: str, kind: str, texts: dict[str, list[str]]) -> str:
    """Each value as 64 bits of its own."""
    bare = f"assumeNotNull({name})"
    if name in texts:
        digests = ", ".join(f"toUInt64({digest(text)})" for text in texts[name])
        number = f"transform(toString({bare}), [{', '.join(map(quoted, texts[name]))}], [{digests}], toUInt64(0))"
    elif kind == "String" or kind.startswith("Array"):
        text = bare if kind == "String" else f"toString({name})"
        number = f"toUInt64(CRC32({text})) + toUInt64(length({text})) * toUInt64({1 << 32})"
    elif "DateTime64(6" in kind:
        number = f"reinterpretAsUInt64(toUnixTimestamp64Micro({bare}))"
    elif "DateTime64" in kind:
        number = f"reinterpretAsUInt64(toUnixTimestamp64Milli({bare}))"
    else:
        number = f"reinterpretAsUInt64({bare})"
    return f"if(isNull({name}), toUInt64({MIX_NULL}), {number})" if kind.startswith("Nullable") else number
