"""A far side's JSON is read alike with orjson and without it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hk_tick_collector.sources.remote import texts
from hk_tick_collector.sources.remote.conversation import read_object
from hk_tick_collector.sources.remote.texts import value_of

INTEGERS = st.integers(-(1 << 63), (1 << 64) - 1)
VALUES = st.recursive(
    st.none() | st.booleans() | INTEGERS | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES, st.booleans())
def test_what_the_standard_library_writes_is_read_as_it_reads_it(value: object, is_ascii: bool) -> None:
    text = json.dumps(value, ensure_ascii=is_ascii)
    expected = repr(json.loads(text))
    assert repr(value_of(text)) == expected
    if "\\ud" in text or not any("\ud800" <= char <= "\udfff" for char in text):
        assert repr(value_of(text.encode(errors="replace"))) == expected


@pytest.mark.parametrize(
    "text", ['{"a": NaN}', '{"a": 1e999}', '{"a": "\\ud800"}', b'\xef\xbb\xbf{"a": 1}', '{"a": -0}']
)
@pytest.mark.parametrize("is_installed", [True, False])
def test_what_one_of_them_refuses_is_read_all_the_same(
    text: str | bytes, is_installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_installed:
        monkeypatch.setattr(texts, "orjson", None)
    assert repr(read_object(text)) == repr(json.loads(text))


@pytest.mark.parametrize("text", ["", "{", "[1]", b"\xff\xfe", "[" * 100_000])
def test_what_is_no_object_is_none(text: str | bytes) -> None:
    assert read_object(text) is None
