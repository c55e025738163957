"""JSON of an answer, written column by column, is what its rows are."""

from __future__ import annotations

import io
import json
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from hk_tick_collector.client.coverage import Coverage
from hk_tick_collector.days.schema import UTC_MS
from hk_tick_collector.market.hk import HK
from hk_tick_collector.serve.api.answer import Facts, Look, write_answer


@given(
    st.lists(
        st.tuples(
            st.none() | st.text(max_size=5) | st.just('50% of "x",\\n'),
            st.none() | st.integers(-(1 << 62), 1 << 62),
            st.none() | st.floats(allow_nan=False, allow_infinity=False),
            st.none() | st.booleans(),
            st.none() | st.integers(-(10**14), 10**14),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_rows_as_json_are_what_they_are(rows: list[Any]) -> None:
    texts, numbers, prices, flags, times = (list(column) for column in zip(*rows, strict=True))
    columns = {
        "text": pa.array(texts, pa.string()).dictionary_encode(),
        "plain %s": pa.array(texts, pa.string()),
        "number": pa.array(numbers, pa.int64()),
        "price": pa.array(prices, pa.float64()),
        "is_final": pa.array(flags, pa.bool_()),
        "ts_ms": pa.array(times, UTC_MS),
    }
    table = pa.table(columns)
    stream = io.BytesIO()
    facts = Facts({"at_ms": 1, "position": None}, {})
    assert write_answer(stream, table.schema, [table, table.slice(1)], Coverage(), facts, Look("json"), HK.zone)
    wanted = [
        dict(zip(columns, (text, text, number, price, flag, ts_ms), strict=True))
        for text, number, price, flag, ts_ms in zip(texts, numbers, prices, flags, times, strict=True)
    ]
    assert json.loads(stream.getvalue())["data"] == wanted + wanted[1:]
