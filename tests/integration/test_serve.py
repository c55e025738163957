"""``hk-tickctl serve``: everything behind one port, for who has just recorded something."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.harness import BIN, Process, clean_env
from tests.serving import add_key
from tests.tickctl import record_day
from tests.ticks import DAY


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("serve") / "HK"
    record_day(root, DAY)
    return root


_started: list[Process] = []


@pytest.fixture(autouse=True)
def all_end() -> Iterator[None]:
    """Also when a test fails."""
    yield
    while _started:
        _started.pop().end()


def serve(tmp_path: Path, *arguments: str | Path, **settings: object) -> Process:
    _started.append(Process([BIN / "hk-tickctl", "serve", *arguments], clean_env(tmp_path / "home", **settings)))
    return _started[-1]


def address(running: Process) -> str:
    return running.wait_for(r"listening on (http://\S+)").group(1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_it_says_to_try_works_and_it_ends_as_asked(tmp_path: Path, root: Path, number: int) -> None:
    running = serve(tmp_path, "--data-root", root, "--port", "0", "--anonymous")
    url = address(running)
    told = running.wait_for(r"curl (http://\S+/v1/days)").group(1)
    assert told.startswith(url)
    days = httpx.get(told, timeout=30, verify=False).json()
    assert [day["day"] for day in days["data"]] == [DAY]
    assert httpx.get(f"{url}/docs", timeout=30, verify=False).status_code == 200
    assert running.find(re.escape(f"curl -N '{url}/v1/live/events"))
    with httpx.stream("GET", f"{url}/v1/live/events?symbols=HK.00700&since=day", timeout=30, verify=False) as live:
        assert next(line for line in live.iter_lines() if '"ticks":[[' in line)
    assert httpx.get(f"{url}/v1/livestock", timeout=30, verify=False).status_code == 404
    running.signal(number)
    assert running.wait() == 0
    assert "Traceback" not in running.output
    assert not re.search(r"ERROR|WARNING", running.output), running.output


def test_keys_count_and_data_root_wins_over_settings(tmp_path: Path, root: Path) -> None:
    key = add_key(tmp_path / "keys.json")
    running = serve(
        tmp_path, "--data-root", root, "--port", "0", API_KEYS_FILE=tmp_path / "keys.json", DATA_ROOTS=tmp_path / "no"
    )
    url = address(running)
    assert httpx.get(f"{url}/v1/days", timeout=30, verify=False).status_code == 401
    assert (
        httpx.get(f"{url}/v1/days", headers={"Authorization": f"Bearer {key}"}, timeout=30, verify=False).status_code
        == 200
    )
    assert key not in running.output
    running.end()


@pytest.mark.parametrize(
    ("arguments", "settings", "code", "words"),
    [
        (["--data-root", "/nowhere/at/all"], {}, 3, "name the recorder's DATA_ROOT with --data-root"),
        (["--data-root", "ROOT", "--anonymous"], {"API_HOST": "0.0.0.0"}, 2, "open to the network"),
        (["--data-root", "ROOT"], {"API_HOST": "0.0.0.0"}, 2, "there is no key yet"),
        (["--data-root", "ROOT"], {"API_PORT": "x"}, 2, "API_PORT"),
        (["--port", "99999"], {}, 2, "99999"),
    ],
)
def test_what_cannot_be_served_is_said(
    tmp_path: Path, root: Path, arguments: list[str], settings: dict[str, str], code: int, words: str
) -> None:
    running = serve(tmp_path, *(str(root) if word == "ROOT" else word for word in arguments), **settings)
    assert running.wait() == code
    assert words in running.output
    assert "Traceback" not in running.output


def test_a_taken_port_is_named(tmp_path: Path, root: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        running = serve(tmp_path, "--data-root", root, "--port", port, "--anonymous")
        assert running.wait() == 1
        assert f"port {port}" in running.output
