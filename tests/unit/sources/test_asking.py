"""What a source's REST interface does to whoever asks it, in words."""

from __future__ import annotations

import urllib.error
from http.client import HTTPException, IncompleteRead

import pytest

from hk_tick_collector.sources.remote.asking import SHOWN_CHARS, words_of


@pytest.mark.parametrize(
    ("exc", "words"),
    [
        (IncompleteRead(b"12", 30), "it ended in the middle of an answer"),
        (urllib.error.URLError(ConnectionRefusedError(111, "Connection refused")), "[Errno 111] Connection refused"),
        (OSError("no route to https://far.example/x?key=secret"), "no route to https://far.example/x"),
        (HTTPException(), "HTTPException"),
        (ValueError("\x1b[2Jgone"), "\\x1b[2Jgone"),
    ],
)
def test_what_went_wrong_is_a_sentence_without_secrets(exc: Exception, words: str) -> None:
    assert words_of(exc) == words


def test_the_far_side_s_words_are_bounded() -> None:
    assert len(words_of(OSError("x" * 100_000))) < 2 * SHOWN_CHARS
