"""``hk-tickctl doctor`` where ticks are served: the port, the keys, the group, Redis."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from tests.integration.test_tickctl_doctor import Checks, run
from tests.redis_server import free_port, redis_server
from tests.serving import add_key
from tests.tickctl import record_day
from tests.ticks import DAY

ROOT = Path(__file__).resolve().parents[2]


def examine(tmp_path: Path, **settings: Any) -> Checks:
    root = tmp_path / "HK"
    if not root.exists():
        record_day(root, DAY, count=20)
        root.chmod(0o750)
    right = {"DATA_ROOT": root, "FUTU_SYMBOLS": "HK.00700", "API_PORT": free_port()}
    return run(tmp_path, "--offline", **{**right, **settings})[1]


def test_nothing_is_said_where_nothing_serves(tmp_path: Path) -> None:
    assert not {"serving", "api_port", "api_keys", "group_reads", "redis"} & set(examine(tmp_path))


def test_the_settings_file_that_everybody_begins_with_sets_nothing_up(tmp_path: Path) -> None:
    """It gives each setting its default, that of Redis among them: doctor ended there, or called for a server."""
    settings = tmp_path / "recorder.env"
    settings.write_bytes((ROOT / ".env.example").read_bytes())
    checks = run(tmp_path, "--offline", "--env-file", settings)[1]
    assert checks["configuration"]["result"] == "ok"
    assert not {"serving", "api_port", "api_keys", "group_reads", "redis"} & set(checks)


def test_a_package_that_is_not_installed_fails_its_own_check(tmp_path: Path) -> None:
    hide = tmp_path / "hide"
    hide.mkdir()
    (hide / "sitecustomize.py").write_text("import sys\nsys.modules['redis'] = None\n")
    path = f"{hide}:{os.environ.get('PYTHONPATH', '')}"
    checks = examine(tmp_path, HOME=tmp_path, PYTHONPATH=path, REDIS_URL="redis://127.0.0.1:1/0")
    assert checks["configuration"]["result"] == "ok"
    assert checks["redis"]["found"] == "the package redis is not installed"
    assert "pip install '.[redis]'" in checks["redis"]["advice"]


def test_all_is_well(tmp_path: Path) -> None:
    add_key(tmp_path / "keys.json")
    with redis_server(tmp_path / "redis") as server:
        checks = examine(tmp_path, API_KEYS_FILE=tmp_path / "keys.json", REDIS_URL=server.url)
    assert {name: checks[name]["result"] for name in ("api_port", "api_keys", "group_reads", "redis")} == {
        "api_port": "ok", "api_keys": "ok", "group_reads": "ok", "redis": "ok",
    }  # fmt: skip
    assert "1 keys" in checks["api_keys"]["found"]
    assert "is free" in checks["api_port"]["found"]


def test_what_is_wrong_is_named_with_its_command(tmp_path: Path) -> None:
    add_key(tmp_path / "keys.json")
    (tmp_path / "keys.json").chmod(0o644)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        first = examine(tmp_path, API_KEYS_FILE=tmp_path / "keys.json", API_PORT=taken.getsockname()[1])
    assert "something answers" in first["api_port"]["found"]
    assert f"chmod 0640 {tmp_path}/keys.json" in first["api_keys"]["advice"]
    (tmp_path / "HK" / f"{DAY}.db").chmod(0o600)
    second = examine(tmp_path, API_ANONYMOUS=1, REDIS_URL=f"redis://u:planted@127.0.0.1:{free_port()}/0")
    assert second["group_reads"]["advice"] == f"sudo chmod g+r {tmp_path}/HK/{DAY}.db"
    assert second["redis"]["result"] == "fail"
    assert "does not answer" in second["redis"]["found"]
    assert "planted" not in str(second)
    assert examine(tmp_path, API_ANONYMOUS=1, API_HOST="0.0.0.0")["api_keys"]["result"] == "fail"
    assert "API_PORT" in examine(tmp_path, API_ANONYMOUS=1, API_PORT="x")["serving"]["found"]
