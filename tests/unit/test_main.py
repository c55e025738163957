"""What the command says before there is a daemon."""

from __future__ import annotations

import errno

import pytest

from hk_tick_collector import main


@pytest.mark.parametrize(
    "exc",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        ImportError("libx.so: failed to map segment from shared object"),
        RuntimeError("can't start new thread"),
        TypeError("Couldn't build proto file into descriptor pool: out of memory"),
    ],
)
def test_too_little_memory_is_a_sentence_however_it_is_told(
    exc: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def record(*_args: object, **_kwargs: object) -> int:
        raise exc

    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(main, "_record", record)
    monkeypatch.setattr(main.os, "_exit", leave)
    with pytest.raises(SystemExit) as left:
        main.main(["--check-config"])
    assert left.value.code == main.EXIT_FAILED
    assert "there is not enough memory" in capsys.readouterr().err


def test_a_fault_of_our_own_is_not_called_a_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def record(*_args: object, **_kwargs: object) -> int:
        raise TypeError("an argument too many")

    monkeypatch.setattr(main, "_record", record)
    with pytest.raises(TypeError, match="an argument too many"):
        main.main(["--check-config"])
