"""Cursors of pages: anybody can make the digest, so what it guards is not believed."""

from __future__ import annotations

import base64
import json

import pytest

from hk_tick_collector.serve.api.cursor import Cursor, Spot, _digest
from hk_tick_collector.serve.problems import Problem

QUESTION = "c355ad03cf84b0f0"
GOOD = [QUESTION, [0, "HK.00700", 1795138205001, 1], 1795935466310, {"20261120.e6e082b9": "3000.376bd3d5"}]


def forged(body: bytes) -> str:
    text = base64.urlsafe_b64encode(body).rstrip(b"=").decode()
    return f"c1.{text}.{_digest(text)}"


def test_what_was_made_is_read() -> None:
    made = Cursor(QUESTION, Spot(*GOOD[1]), GOOD[2], GOOD[3])  # type: ignore[misc, arg-type]
    assert Cursor.parse(str(made), QUESTION) == made
    assert Cursor.parse(forged(json.dumps(GOOD).encode()), QUESTION) == made


@pytest.mark.parametrize(
    "content",
    [
        b"no json",
        b"[" * 2000,
        b"\xff",
        b"7",
        json.dumps([QUESTION, [0, "HK.00700", 1, 1], 1]).encode(),
        json.dumps([QUESTION, ["0", "HK.00700", 1, 1], 1, {}]).encode(),
        json.dumps([QUESTION, [True, "HK.00700", 1, 1], 1, {}]).encode(),
        json.dumps([QUESTION, [0, "HK.00700", 10**30, 1], 1, {}]).encode(),
        json.dumps([QUESTION, [-1, "HK.00700", 1, 1], 1, {}]).encode(),
        json.dumps([QUESTION, [0, "HK.00700", 1, 1], 1, {"20261120.e6e082b9": "\u00b2.376bd3d5"}]).encode(),
        json.dumps([QUESTION, [0, "HK.00700", 1, 1], 1, {"20261120.e6e082b9": f"{10**30}.376bd3d5"}]).encode(),
        json.dumps([QUESTION, [0, "HK.00700", 1, 1], 1, []]).encode(),
    ],
)
def test_a_forged_one_is_refused(content: bytes) -> None:
    with pytest.raises(Problem) as refused:
        Cursor.parse(forged(content), QUESTION)
    assert refused.value.slug == "bad-cursor"


@pytest.mark.parametrize("text", ["c1.$$$." + _digest("$$$"), "c1.A." + _digest("A")])
def test_no_base64_is_refused(text: str) -> None:
    with pytest.raises(Problem):
        Cursor.parse(text, QUESTION)
