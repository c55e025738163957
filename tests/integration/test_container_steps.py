"""What the Dockerfile and docker-compose.yml do, step by step and without a container engine.

The wheel is built from the files that the Dockerfile copies and nothing else, and installed into an environment with
the dependencies it declares and nothing else: no development tools. There the commands of both files run.
"""

from __future__ import annotations

import fnmatch
import http.server
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hk_tick_collector.app.config import setting_table
from hk_tick_collector.cli.all_settings import all_settings_table
from tests.built_package import build_wheel, install_wheel, run
from tests.harness import Process, clean_env, ended, stored_rows, wait_until

ROOT = Path(__file__).resolve().parents[2]
HEALTHCHECK = ROOT / "deploy/container/healthcheck.py"


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions with their arguments, continued lines joined."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def arguments(instruction: str) -> list[str]:
    return [rest for word, rest in instructions() if word == instruction]


def copied() -> list[str]:
    """Names of the build context that go into the image."""
    words = [rest.split()[:-1] for rest in arguments("COPY") if "--from" not in rest]
    return [word for line_words in words for word in line_words if not word.startswith("--")]


def image_env() -> dict[str, str]:
    return dict(pair.split("=", 1) for rest in arguments("ENV") for pair in rest.split())


def services() -> dict[str, dict[str, Any]]:
    compose: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))[
        "services"
    ]
    return compose


EXTRAS = ["metrics", "tools"]  # what requirements/service.txt is made of, beside the project's own dependencies


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the built wheel and its declared dependencies alone."""
    directory = tmp_path_factory.mktemp("image")
    context, wheels, env = directory / "src", directory / "wheels", directory / "venv"
    for name in copied():
        target = context / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, target)
    return install_wheel(build_wheel(context, wheels), env, EXTRAS)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_every_file_it_copies_exists_and_gets_through_the_ignore_file() -> None:
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").split("\n")
    let_in = [line[1:] for line in ignore if line.startswith("!")]
    assert copied()
    for name in copied():
        assert (ROOT / name).exists(), name
        assert any(fnmatch.fnmatch(Path(name).parts[0], pattern) for pattern in let_in), name


def test_the_metadata_of_the_wheel_needs_no_other_file() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for name in re.findall(r'^readme = "([^"]+)"', text, re.MULTILINE):
        assert name in copied()


def test_the_image_does_not_run_as_root_and_says_how_it_is() -> None:
    words = [word for word, _ in instructions()]
    assert arguments("USER") == ["build", "recorder"]
    assert words[-1] == "CMD"
    assert "RUN" not in words[len(words) - words[::-1].index("USER") :]
    assert any("--uid 10001" in rest and rest.split()[0] == "useradd" for rest in arguments("RUN"))
    assert arguments("STOPSIGNAL") == ["SIGTERM"]
    (check,) = arguments("HEALTHCHECK")
    script = json.loads(check.partition("CMD ")[2])[1]
    assert any(rest == f"{HEALTHCHECK.relative_to(ROOT)} {script}" for rest in arguments("COPY"))


def test_the_image_is_made_of_what_is_locked_and_root_builds_nothing() -> None:
    """By reading: no container engine is here. tests/systemd does the same steps for the service."""
    build, image = (ROOT / "Dockerfile").read_text(encoding="utf-8").split("\nFROM ")[1:]
    before, _, after = build.partition("\nUSER build\n")
    assert "pip" not in before
    for command in re.findall(r"pip (?:install|wheel) .*", after):
        assert "--require-hashes" in command or "--no-index" in command, command
    assert "-r requirements/service.txt" in after
    (install,) = re.findall(r"pip install .*", image)
    assert "--no-index --no-deps /wheels/*.whl" in install


def test_settings_in_both_files_are_real_ones() -> None:
    keys = {info.key for info in all_settings_table()}
    used = {*image_env(), *(key for service in services().values() for key in service.get("environment", {}))}
    assert used - {"PYTHONUNBUFFERED"} <= keys


def test_services_are_kept_small_and_apart() -> None:
    compose = services()
    serving = {"api": 8877, "live": 8878, "keys": None, "redis-relay": None}
    assert set(compose) == {"recorder", "simulator", "rehearsal", *serving}
    assert [name for name, service in compose.items() if "profiles" not in service] == ["recorder"]
    for name, service in compose.items():
        assert service["cap_drop"] == ["ALL"]
        assert service["read_only"] is True
        port = serving.get(name)
        assert service.get("ports", []) == ([f"127.0.0.1:{port}:{port}"] if port else [])
        if name in serving:
            assert "ticks:/data" not in service["volumes"], "what serves only reads"
    assert not set(compose["recorder"]["volumes"]) & set(compose["rehearsal"]["volumes"])
    grace_sec = int(compose["recorder"]["stop_grace_period"].removesuffix("s"))
    flush = next(info.default for info in setting_table() if info.key == "STOP_FLUSH_TIMEOUT_SEC")
    assert grace_sec > float(flush or 0)


def test_nothing_of_the_development_tools_is_needed(image: Path) -> None:
    code = "import importlib.util as u; print([n for n in ('pytest', 'hypothesis', 'mypy', 'yaml') if u.find_spec(n)])"
    assert run([str(image / "python"), "-c", code]).stdout.strip() == "[]"
    location = run([str(image / "python"), "-c", "import hk_tick_collector as h; print(h.__file__)"], cwd="/").stdout
    assert str(image.parent) in location
    for command in ("hk-tick-collector", "hk-opend-sim", "hk-tickctl", "hk-tick-api", "hk-tick-redis"):
        assert run([str(image / command), "--help"]).stdout.lower().startswith("usage: ")


@pytest.fixture
def rehearsal(image: Path, tmp_path: Path) -> Iterator[tuple[Process, dict[str, str]]]:
    """The profile ``simulator``: both commands as the files have them, but for names and ports of this machine."""
    words = [word.replace("0.0.0.0", "127.0.0.1") for word in services()["simulator"]["command"]]
    env = clean_env(tmp_path / "home")
    simulator = Process([image / words[0], *words[1:], "--port", "0"], env)
    with ended(simulator):
        port = simulator.wait_for(r"opend_sim_ready .*port=(\d+)").group(1)
        here = {"FUTU_HOST": "127.0.0.1", "FUTU_PORT": port, "DATA_ROOT": str(tmp_path / "data")}
        here["METRICS_PORT"] = str(free_port())
        env = {**env, **image_env(), **services()["rehearsal"]["environment"], **here}
        (command,) = arguments("CMD")
        recorder = Process([image / json.loads(command)[0]], env)
        with ended(recorder):
            recorder.wait_for("backfill_done ")
            yield recorder, env


def ask(image: Path, env: dict[str, str]) -> tuple[int, str]:
    done = subprocess.run(
        [image / "python", HEALTHCHECK], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_the_rehearsal_records_and_the_health_check_tells_the_truth(
    image: Path, rehearsal: tuple[Process, dict[str, str]]
) -> None:
    recorder, env = rehearsal
    wait_until(lambda: stored_rows(Path(env["DATA_ROOT"])) > 20, "rows")
    assert ask(image, env)[0] in (0, 1)  # 1 in Hong Kong's trading hours until the first push
    wait_until(lambda: ask(image, env) == (0, "healthy\n"), "healthy")
    recorder.signal(signal.SIGSTOP)
    code, text = ask(image, env)
    assert code == 1
    assert "does not answer" in text
    recorder.signal(signal.SIGCONT)
    assert recorder.stop() == 0
    assert ask(image, env)[0] == 1


def test_hk_tickctl_works_where_the_recorder_does(image: Path, rehearsal: tuple[Process, dict[str, str]]) -> None:
    """As ``docker compose exec recorder hk-tickctl``: with what the image has and in its environment."""
    _, env = rehearsal
    wait_until(lambda: stored_rows(Path(env["DATA_ROOT"])) > 20, "rows")
    question = "SELECT count(*) AS ticks FROM ticks"
    (row,) = json.loads(run([str(image / "hk-tickctl"), "query", question, "--json"], env=env).stdout)
    assert row["ticks"] > 20
    target = Path(env["DATA_ROOT"]) / "export"
    run([str(image / "hk-tickctl"), "export", "parquet", "--output", str(target)], env=env)
    assert list(target.rglob("*.parquet"))


GOOD = {
    "loop_beat_timestamp_seconds": "1000.0",
    "worker_alive": "1.0",
    'health_status{status="ok"}': "1.0",
    'health_status{status="alert"}': "0.0",
}


@pytest.mark.parametrize(
    ("change", "now_sec", "expected"),
    [
        ({}, 1000.0, None),
        ({}, 1031.0, "has not turned"),
        ({"worker_alive": "0.0"}, 1000.0, "worker is dead"),
        ({'health_status{status="alert"}': "1.0"}, 1000.0, "status=alert"),
        ({"loop_beat_timestamp_seconds": ""}, 1000.0, "metric missing"),
    ],
)
def test_what_the_health_check_objects_to(change: dict[str, str], now_sec: float, expected: str | None) -> None:
    scope: dict[str, Any] = {"__name__": "healthcheck"}
    exec(compile(HEALTHCHECK.read_text(encoding="utf-8"), HEALTHCHECK, "exec"), scope)
    text = "".join(f"hk_tick_collector_{name} {value}\n" for name, value in {**GOOD, **change}.items())
    problem = scope["judge"](text, now_sec)
    assert problem is None if expected is None else expected in problem


def test_an_answer_that_is_no_metrics_is_not_health(tmp_path: Path) -> None:
    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *_: object) -> None:
            return

    server = http.server.HTTPServer(("127.0.0.1", 0), Other)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        env = {**os.environ, "METRICS_PORT": str(server.server_address[1])}
        code, text = ask(Path(sys.executable).parent, env)
    finally:
        server.shutdown()
        server.server_close()
    assert code == 1
    assert "metric missing" in text
