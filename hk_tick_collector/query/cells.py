"""A column's values as text, for tables, CSV and JSON.

Integers and decimals never pass through a float; a float is written in the shortest form that reads back as the same
float64. Times with a zone become UTC (``2026-11-20T01:30:00.123Z``), a local time (``2026-11-20T09:30:00.123+08:00``)
or UTC epoch milliseconds; times without a zone have none to show. Hong Kong has been at UTC+8 since October 1979;
earlier times are shown with that offset too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from hk_tick_collector.days.clock import local_ms
from hk_tick_collector.market.zone import Zone

EXACT_IN_A_DOUBLE = 1 << 53  # a sequence is a thousand times as large
TIME_UTC, TIME_MS = "utc", "ms"
_PER_MS = {"us": 1000, "ns": 1_000_000}
_FIRST_MS, _LAST_MS = -62_135_510_400_000, 253_402_214_400_000  # the years in which a zone has an offset


@dataclass(frozen=True, slots=True)
class LocalTime:
    """A clock that times are shown on."""

    zone: Zone
    word: str  # over times in a table, where their offset is not shown


TimeAs = str | LocalTime


def csv_column(array: pa.Array, time_as: TimeAs) -> pa.Array:
    """An array that pyarrow's CSV writer writes as we mean it: numbers, booleans and texts stay what they are."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        return array.dictionary_decode()
    if pa.types.is_timestamp(kind):
        return _times(array, time_as, "T", with_zone=True)
    if _is_plain(kind):
        return array
    if pa.types.is_decimal(kind):
        return array.cast(pa.string())
    return pa.array([None if value is None else _as_text(value) for value in array.to_pylist()], pa.string())


def json_column(array: pa.Array, time_as: TimeAs, *, big_as_text: bool = False) -> list[str]:
    """Each value as a JSON literal. ``big_as_text``: whole numbers beyond EXACT_IN_A_DOUBLE as strings, for readers
    that take every number for a double (jq before 1.7, JavaScript)."""
    kind = array.type
    if big_as_text and pa.types.is_integer(kind):
        return _literals(array, lambda value: str(value) if abs(value) <= EXACT_IN_A_DOUBLE else f'"{value}"')
    if pa.types.is_timestamp(kind):
        return _literals(_times(array, time_as, "T", with_zone=True), str if time_as == TIME_MS else _quoted)
    if pa.types.is_dictionary(kind):
        texts = json_column(array.dictionary, time_as)
        return ["null" if code is None else texts[code] for code in array.indices.to_pylist()]
    return _literals(array, next((literal for test, literal in _JSON if test(kind)), _json))


def table_column(array: pa.Array, time_as: TimeAs, *, is_count: bool = True) -> list[str]:
    """Each value as a table for people shows it; a dash for NULL. ``is_count``: a large number gets separators."""
    kind = array.type
    if pa.types.is_timestamp(kind):
        return _shown(_times(array, time_as, " ", with_zone=False), str)
    if pa.types.is_dictionary(kind):
        texts = [_printable(value) for value in array.dictionary.to_pylist()]
        return ["-" if code is None else texts[code] for code in array.indices.to_pylist()]
    number = next((text for test, text in _NUMBERS if test(kind)), None)
    if number is not None:
        return _shown(array, lambda value: _grouped(number(value)) if is_count else number(value))
    if pa.types.is_boolean(kind):
        return _shown(array, lambda value: "yes" if value else "no")
    return _shown(array, _printable)


def is_count(name: str) -> bool:
    """Is a column of this name no sequence and no instant, whose digits are a name?"""
    return name not in ("seq", "rowid") and not name.endswith(("_ms", "_seq"))


def has_clock(kind: pa.DataType, time_as: TimeAs) -> bool:
    """Are a column's values shown on a clock that has to be named?"""
    return bool(pa.types.is_timestamp(kind) and kind.tz is not None and time_as != TIME_MS)


def clock_word(time_as: TimeAs) -> str:
    """``HKT``, ``UTC``: whose clock times are on."""
    return time_as.word if isinstance(time_as, LocalTime) else "UTC"


def is_number(kind: pa.DataType) -> bool:
    """Does a table set it to the right?"""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _is_plain(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_boolean(kind)
        or types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_date(kind)
        or types.is_null(kind)
    )


def _times(array: pa.Array, time_as: TimeAs, between: str, *, with_zone: bool) -> pa.Array:
    """Times as text, or as int64 for ``ms``. Milliseconds where all of them are whole ones, else all the digits."""
    unit, has_zone = array.type.unit, array.type.tz is not None
    valid = np.asarray(array.is_valid())
    ticks = pc.fill_null(array.view(pa.int64()), 0).to_numpy(zero_copy_only=False)
    per_ms = _PER_MS.get(unit)
    if unit == "s":
        unit, ticks = "ms", ticks * 1000
    elif per_ms is not None and (time_as == TIME_MS or not np.any(ticks % per_ms)):
        unit, ticks = "ms", ticks // per_ms
    if time_as == TIME_MS:
        return pa.array(ticks, mask=~valid)
    suffix: pa.Array | str = "Z" if with_zone else ""
    if has_zone and isinstance(time_as, LocalTime):
        offsets_ms = _offsets_ms(ticks // _PER_MS.get(unit, 1), time_as.zone)
        ticks = ticks + offsets_ms * _PER_MS.get(unit, 1)
        suffix = _told_offsets(offsets_ms) if with_zone else ""
    texts = pa.array(np.datetime_as_string(ticks.view(f"datetime64[{unit}]")), pa.string(), mask=~valid)
    if between != "T":
        texts = pc.replace_substring(texts, "T", between)
    has_suffix = has_zone and not (isinstance(suffix, str) and not suffix)
    return pc.binary_join_element_wise(texts, suffix, "") if has_suffix else texts


def _offsets_ms(ts_ms: npt.NDArray[np.int64], zone: Zone) -> npt.NDArray[np.int64]:
    """What the zone's clock is ahead of UTC at each of these moments."""
    known_ms = np.clip(ts_ms, _FIRST_MS, _LAST_MS)
    return local_ms(known_ms, zone) - known_ms


def _told_offsets(offsets_ms: npt.NDArray[np.int64]) -> pa.Array:
    """``+08:00``"""
    distinct, which = np.unique(offsets_ms // 60_000, return_inverse=True)
    texts = [f"{'-' if mins < 0 else '+'}{abs(mins) // 60:02d}:{abs(mins) % 60:02d}" for mins in distinct.tolist()]
    return pa.array(texts, pa.string()).take(pa.array(which))


def _json(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=_as_text)
    return text if text.isprintable() else json.dumps(value, default=_as_text)  # the same to every reader


_JSON: tuple[tuple[Callable[[Any], bool], Callable[[Any], str]], ...] = (
    (pa.types.is_integer, str),
    (pa.types.is_floating, lambda value: repr(value) if math.isfinite(value) else "null"),
    (pa.types.is_decimal, lambda value: format(value, "f")),
)


def _literals(array: pa.Array, literal: Callable[[Any], str]) -> list[str]:
    values = array.to_pylist()
    if array.null_count:
        return ["null" if value is None else literal(value) for value in values]
    return list(map(literal, values))


def _shown(array: pa.Array, text: Callable[[Any], str]) -> list[str]:
    return ["-" if value is None else text(value) for value in array.to_pylist()]


def _quoted(text: str) -> str:
    return f'"{text}"'


def _short_float(value: float) -> str:
    """Six decimals at most where that loses nothing a person sees."""
    exact = repr(value)
    if "e" not in exact and len(exact.partition(".")[2]) <= 6:
        return exact.removesuffix(".0")
    if value and not 1e-3 <= abs(value) < 1e15:
        return f"{value:.6g}"
    text = f"{value:.6f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


_GROUPED_FROM, _NAMES_FROM = 5, 16  # digits: a year needs no separator, and what is longer is a name


def _grouped(text: str) -> str:
    """``21511746629.628`` -> ``21,511,746,629.628``"""
    whole, point, rest = text.partition(".")
    digits = whole.lstrip("-")
    if not digits.isdigit() or not _GROUPED_FROM <= len(digits) < _NAMES_FROM:
        return text
    return f"{int(whole):,}{point}{rest}"


_NUMBERS: tuple[tuple[Callable[[Any], bool], Callable[[Any], str]], ...] = (
    (pa.types.is_integer, str),
    (pa.types.is_floating, _short_float),
    (pa.types.is_decimal, lambda value: format(value, "f")),
)


def _printable(value: object) -> str:
    text = value if isinstance(value, str) else _as_text(value)
    return text if text.isprintable() else repr(text)[1:-1]  # no escape sequence reaches a terminal


def _as_text(value: object) -> str:
    if isinstance(value, (list, dict, tuple)):
        return json.dumps(value, ensure_ascii=False, default=_as_text)
    return value.hex() if isinstance(value, bytes) else str(value)
