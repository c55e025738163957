"""``docs/api.md``: every command runs against a server over recorded days, and answers what the page shows."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hk_tick_collector.serve.problems import KINDS
from tests.harness import BIN, ended
from tests.serving import ApiServer, record_roots

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api.md"
BLOCK = re.compile(
    r"(?:^<!-- (?P<comment>.*?) -->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
# Other values at every run.
VARIES = ("next", "at_ms", "position", "request_id", "query_id", "response_time_ms", "inserted_at_ms")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("doc")


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[ApiServer]:
    running = ApiServer(place, record_roots(place), API_ANONYMOUS=1)
    with ended(running):
        yield running
        assert "Traceback" not in running.output


def alike(shown: Any, printed: Any) -> Any:
    """``printed`` with what varies as it is shown."""
    if isinstance(shown, dict) and isinstance(printed, dict):
        return {
            name: shown[name] if name in VARIES and name in shown and type(shown[name]) is type(value)
            else alike(shown.get(name), value)
            for name, value in printed.items()
        }  # fmt: skip
    if isinstance(shown, list) and isinstance(printed, list) and len(shown) == len(printed):
        return [alike(part, other) for part, other in zip(shown, printed, strict=True)]
    return printed


def test_every_command_answers_what_is_shown(server: ApiServer, place: Path) -> None:
    env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(place)}
    blocks = list(BLOCK.finditer(PAGE.read_text(encoding="utf-8")))
    answer, compared, run = "", 0, 0
    for block in blocks:
        text = block["text"].replace("http://127.0.0.1:8877", server.url)
        if block["comment"]:
            continue
        if block["language"] == "json":
            shown = json.loads(text)
            assert alike(shown, json.loads(answer)) == shown
            compared += 1
            continue
        command = ["bash", "-euc", text] if block["language"] == "bash" else [sys.executable, "-c", text]
        done = subprocess.run(command, cwd=place, env=env, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
        answer = done.stdout
        run += 1
    assert (compared, run) == (5, 10)


def test_the_page_names_what_there_is(server: ApiServer) -> None:
    """Every address of the document stands on the page, but those of other pages; no address that is not there."""
    text = PAGE.read_text(encoding="utf-8")
    with server.client() as client:
        paths = client.get("/openapi.json").json()["paths"]
    for path in paths:
        if "/hooks/" not in path and path != "/ml-trade":
            last = path.rsplit("/", 1)[1]
            assert last in text, path
    assert KINDS["rate-limited"].status == 429
