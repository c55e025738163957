"""A real redis-server for the relay."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.redis_server import RedisServer, redis_server


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis") / "data") as server:
        yield server


@pytest.fixture
def server(shared_server: RedisServer) -> RedisServer:
    client = shared_server.client
    client.config_set("maxmemory", 0)
    client.config_set("requirepass", "")
    client.flushall()
    return shared_server
