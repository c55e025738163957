"""Simulators of sources for tests: the built ``hk-NAME-sim`` as a process, and an exchange on a thread of this one."""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.request
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.harness import BIN, Process, clean_env


class Simulator(Process):
    """``hk-NAME-sim run`` with a truth file. ``url``: where its stream is; ``rest``: where requests go, and faults."""

    name: str
    ready: str  # what it prints, with the one or the two addresses

    def __init__(self, directory: Path, **options: object) -> None:
        self.truth = directory / "truth.jsonl"
        words = [str(word) for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
        command = [BIN / f"hk-{self.name}-sim", "run", "--truth", self.truth, *words]
        super().__init__(command, clean_env(directory / "home"))
        addresses = self.wait_for(f"{self.name}_sim_ready {self.ready}").groups()
        self.url, self.rest = addresses[0], addresses[-1]

    def fault(self, name: str) -> None:
        urllib.request.urlopen(urllib.request.Request(f"{self.rest}/sim/{name}", method="POST"), timeout=30).close()

    def state(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.rest}/sim/state", timeout=30) as answer:
            state_json: dict[str, Any] = json.load(answer)
        return state_json


class _Exchange(Protocol):
    def run(self, port: int, ready: Callable[[int], None]) -> Coroutine[Any, Any, None]: ...


@contextmanager
def on_a_thread(exchange: _Exchange) -> Iterator[None]:
    """It serves, on any port, until the block ends."""
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    task = loop.create_task(exchange.run(0, lambda _port: ready.set()))

    def run() -> None:
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(60)
    yield
    loop.call_soon_threadsafe(task.cancel)
    thread.join()
