"""Keys: the file, the check, and what each may do."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from hk_tick_collector.cli.main import tickctl
from hk_tick_collector.core.errors import InputError, NoData
from hk_tick_collector.serve.keys import SCOPES, Key, KeyRing, KeysFileError, named, new_key, read_keys, write_keys

NOW_MS = 1_790_000_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def test_a_new_key_is_good_and_its_secret_is_nowhere(path: Path) -> None:
    stored, text = new_key("research", now_ms=NOW_MS)
    write_keys(path, [stored])
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert text.split("_", 2)[2] not in path.read_text()
    ring = KeyRing.open(path)
    key = ring.check(text, NOW_MS)
    assert key is not None
    assert (key.name, key.scopes, key.symbols) == ("research", ("read", "live"), ("*",))


@pytest.mark.parametrize("change", ["secret", "id", "prefix", "longer", "empty", "unicode", "nul"])
def test_any_other_text_is_no_key(path: Path, change: str) -> None:
    stored, text = new_key("research", now_ms=NOW_MS)
    write_keys(path, [stored])
    swapped = "A" if text[-5] != "A" else "B"
    wrong = {
        "secret": text[:-5] + swapped + text[-4:], "id": "hktk_zzzzzzzz" + text[13:], "prefix": "x" + text,
        "longer": text + "A", "empty": "", "unicode": text[:-1] + "\u00e9", "nul": text[:-1] + "\0",
    }[change]  # fmt: skip
    assert KeyRing.open(path).check(wrong, NOW_MS) is None


def test_a_key_ends_at_its_time(path: Path) -> None:
    stored, text = new_key("visitor", now_ms=NOW_MS, expires_at_ms=NOW_MS + 1000)
    write_keys(path, [stored])
    ring = KeyRing.open(path)
    assert ring.check(text, NOW_MS + 999) == stored.key
    assert ring.check(text, NOW_MS + 1000) is None
    assert ring.current(stored.key, NOW_MS + 999) == stored.key
    assert ring.current(stored.key, NOW_MS + 1000) is None


def test_the_ring_follows_the_file(path: Path) -> None:
    ring = KeyRing.open(path)
    first, first_text = new_key("first", now_ms=NOW_MS)
    second, _ = new_key("second", now_ms=NOW_MS)
    assert not ring.reload()
    write_keys(path, [first, second])
    assert ring.reload()
    assert ring.check(first_text, NOW_MS) == first.key
    write_keys(path, [second])
    assert ring.reload()
    assert ring.check(first_text, NOW_MS) is None
    assert ring.current(first.key, NOW_MS) is None


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o604, 0o642, 0o777])
def test_a_file_that_others_may_touch_is_refused(path: Path, mode: int) -> None:
    stored, text = new_key("research", now_ms=NOW_MS)
    write_keys(path, [stored])
    ring = KeyRing.open(path)
    path.chmod(mode)
    with pytest.raises(KeysFileError, match="chmod 0640"):
        read_keys(path)
    assert ring.reload()  # while it serves: no key is good until it is mended
    assert ring.check(text, NOW_MS) is None
    assert "chmod 0640" in (ring.problem or "")
    path.chmod(0o640)
    assert ring.reload()
    assert ring.check(text, NOW_MS) == stored.key


@pytest.mark.parametrize(
    "content",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"form": 2, "keys": []}',
        '{"form": 1, "keys": 7}',
        '{"form": 1, "keys": [{}]}',
        "[" * 99_999,
    ],
)
def test_a_file_of_something_else_is_refused(path: Path, content: str) -> None:
    path.write_text(content)
    path.chmod(0o640)
    with pytest.raises(KeysFileError, match="not a file of keys"):
        KeyRing.open(path)


def test_a_key_that_somebody_wrote_by_hand_is_checked(path: Path) -> None:
    stored, _ = new_key("research", now_ms=NOW_MS)
    write_keys(path, [stored])
    keys_json = json.loads(path.read_text())
    keys_json["keys"][0]["symbols"] = ["[A-Z]*"]
    path.write_text(json.dumps(keys_json))
    with pytest.raises(KeysFileError, match="not a pattern of symbols"):
        read_keys(path)


def test_a_directory_or_a_pipe_is_no_file_of_keys(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o640)
    for name in (".", "pipe"):
        with pytest.raises(KeysFileError, match="cannot be read"):
            read_keys(tmp_path / name)


@pytest.mark.parametrize(
    ("patterns", "symbol", "may"),
    [
        (("*",), "HK.00700", True),
        (("HK.*",), "HK.00700", True),
        (("HK.*",), "US.AAPL", False),
        (("HK.00700", "HK.00005"), "HK.00005", True),
        (("HK.00700",), "HK.007000", False),
        (("HK.007*",), "HK.00700", True),
    ],
)
def test_patterns_of_symbols(patterns: tuple[str, ...], symbol: str, may: bool) -> None:
    assert Key("id", "name", ("read",), patterns).may_read(symbol) is may


def test_scopes() -> None:
    assert Key("id", "name", ("read",)).may("read")
    assert not Key("id", "name", ("read",)).may("hook:ml-trade")
    assert Key("id", "name", ("hook:ml-trade",)).may("hook:ml-trade")
    assert Key("id", "name", ("admin",)).may("sql")


@pytest.mark.parametrize(
    ("field", "value"),
    [("name", ""), ("name", "a\nb"), ("scopes", ["write"]), ("scopes", []), ("symbols", ["700"]), ("symbols", [])],
)
def test_a_key_that_means_nothing_is_not_made(field: str, value: object) -> None:
    arguments = {"name": "research", "scopes": ["read"], "symbols": ["*"], field: value}
    with pytest.raises(InputError):
        new_key(**arguments, now_ms=NOW_MS)  # type: ignore[arg-type]


def test_a_key_is_named_by_id_or_by_a_name_that_is_its_own() -> None:
    keys = [new_key(name, now_ms=NOW_MS)[0] for name in ("one", "two", "two")]
    assert named(keys, "one") is keys[0]
    assert named(keys, keys[2].key.id) is keys[2]
    with pytest.raises(InputError, match="2 keys"):
        named(keys, "two")
    with pytest.raises(NoData, match="keys list"):
        named(keys, "three")


def test_the_help_names_every_scope() -> None:
    named = CliRunner().invoke(tickctl, ["keys", "add", "--help"]).output.split("Scopes:")[1].split("Options:")[0]
    assert {word for word in SCOPES if word not in named.replace(",", " ").split()} == set()
