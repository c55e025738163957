"""One booted machine with the service installed, for all tests of this directory."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.harness import Simulator
from tests.systemd.machine import Machine, why_not
from tests.systemd.server import SYMBOLS, Server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs the machine, and time to install it."""
    reason = why_not()
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.timeout(900))
            if reason is not None:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    """One market for the whole suite, some seconds behind this machine: so it is as well when the machine's clock is
    set while the suite runs, and no test may take the one for the other. A slow one, for it is
    recorded all the time."""
    start = datetime.now(UTC) - timedelta(seconds=10)
    market = ["--start", start.isoformat(), "--always-open", "--rate", "15", "--no-rate-limits"]
    sim = Simulator(tmp_path_factory.mktemp("sim"), "--symbols", SYMBOLS, *market)
    try:
        yield sim
    finally:
        sim.end()


@pytest.fixture(scope="session")
def machine() -> Iterator[Machine]:
    made = Machine()
    try:
        made.boot()
        yield made
    finally:
        made.end()


@pytest.fixture(scope="session")
def installed(machine: Machine, simulator: Simulator) -> Server:
    """The service as ``scripts/install_systemd.sh`` leaves it, set to the simulator, not yet started."""
    server = Server(machine, simulator)
    server.put_project()
    server.install()
    server.write_settings()
    return server


@pytest.fixture
def server(installed: Server) -> Server:
    """The service running on its own settings and recording, whatever the test before did to it."""
    installed.recover()
    return installed
