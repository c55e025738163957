"""The endpoint of a built recorder beside a simulator; alert rules and dashboard against what it exposes."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import socket
import sqlite3
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.harness import Process, Recorder, Simulator, ended, wait_until

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy/prometheus/alerts.yml"
DASHBOARD = ROOT / "deploy/grafana/dashboard.json"
PAGE = ROOT / "docs/monitoring.md"
SYMBOLS = "HK.00700,HK.00005,HK.09988"
PREFIX = "hk_tick_collector_"
MADE_BY_PROMETHEUS = {"up"}
PROMQL_WORDS = {"and", "or", "unless", "bool", "offset"}

Samples = dict[str, list[tuple[dict[str, str], float]]]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[Simulator]:
    simulator = Simulator(tmp_path / "sim", "--symbols", SYMBOLS, "--always-open", "--rate", "300")
    with ended(simulator):
        yield simulator


class Measured(Recorder):
    """A recorder with its endpoint."""

    def __init__(self, data_root: Path, port: int, **settings: object) -> None:
        self.metrics_port = free_port()
        super().__init__(data_root, port, SYMBOLS, METRICS_PORT=self.metrics_port, **settings)

    def text(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=60) as answer:
            return str(answer.read().decode())

    def samples(self) -> Samples:
        samples_of: Samples = {}
        for family in text_string_to_metric_families(self.text()):
            for sample in family.samples:
                samples_of.setdefault(sample.name, []).append((sample.labels, sample.value))
        return samples_of

    def value(self, name: str, **labels: str) -> float:
        (value,) = [value for have, value in self.samples()[PREFIX + name] if have == labels]
        return value

    def wait_rows(self, rows: int) -> None:
        wait_until(lambda: self.rows() >= rows, f"{rows} rows\n{self.output}")


def test_the_endpoint_agrees_with_the_day_files(simulator: Simulator, tmp_path: Path) -> None:
    recorder = Measured(tmp_path / "data", simulator.port)
    with ended(recorder):
        recorder.wait_for(f"metrics_listening host=127.0.0.1 port={recorder.metrics_port}")
        recorder.wait_rows(2000)
        before = recorder.rows()
        wait_until(lambda: recorder.value("ticks_persisted_total") >= before, f"{before} rows in the metric")
        samples = recorder.samples()
        persisted = samples[PREFIX + "ticks_persisted_total"][0][1]
        wait_until(lambda: recorder.rows() >= persisted, f"{persisted} rows in the file")
        assert samples[PREFIX + "commit_latency_seconds_count"][0][1] >= before
        assert samples[PREFIX + "event_latency_seconds_count"][0][1] > 0
        assert samples[PREFIX + "opend_connected"][0][1] == 1
        assert samples[PREFIX + "symbols_subscribed"][0][1] == 3
        assert ({"state": "ready"}, 1.0) in samples[PREFIX + "opend_state"]
        assert [v for _, v in samples[PREFIX + "ticks_refused_total"]] == [0]
        line = recorder.wait_for(
            r"health .* latency_ms_p50=([\d.]+) latency_ms_p99=([\d.]+) event_latency_ms_p50=[\d.]+"
        )
        assert 0 < float(line[1]) <= float(line[2]) < 60_000
        assert not re.search(r"symbol=", recorder.text()), "no label per symbol unless asked for"
        assert recorder.stop() == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", recorder.metrics_port), timeout=5)


def test_a_lost_opend_is_seen_and_symbols_are_counted_when_asked(simulator: Simulator, tmp_path: Path) -> None:
    recorder = Measured(tmp_path / "data", simulator.port, METRICS_PER_SYMBOL=1)
    with ended(recorder):
        recorder.wait_rows(500)
        samples = recorder.samples()
        by_symbol = {labels["symbol"]: v for labels, v in samples[PREFIX + "symbol_ticks_pushed_total"]}
        assert set(by_symbol) == set(SYMBOLS.split(","))
        assert all(by_symbol.values())
        simulator.end()
        wait_until(lambda: recorder.value("opend_connected") == 0, "disconnected")
        wait_until(lambda: recorder.value("opend_disconnections_total") == 1, "a disconnection")
        assert sum(v for _, v in recorder.samples()[PREFIX + "opend_state"]) == 1
        pushed = recorder.value("ticks_pushed_total")
        assert sum(v for _, v in recorder.samples()[PREFIX + "symbol_ticks_pushed_total"]) == pushed
        assert recorder.stop() == 0


def test_rules_dashboard_and_page_name_what_a_recorder_exposes(simulator: Simulator, tmp_path: Path) -> None:
    recorder = Measured(
        tmp_path / "data", simulator.port, METRICS_PER_SYMBOL=1, BOOK_SYMBOLS="HK.00700", BOOK_BROKERS=1
    )
    with ended(recorder):
        recorder.wait_rows(100)
        samples = recorder.samples()
    asked = rule_expressions() + dashboard_expressions()
    assert len(asked) > 50
    for expression in asked:
        unknown = metric_names(expression) - samples.keys() - MADE_BY_PROMETHEUS
        assert not unknown, f"{unknown} in {expression}"
        for name, label, pattern in matchers(expression):
            values = [labels.get(label, "") for labels, _ in samples.get(name, [])]
            for choice in pattern.split("|"):
                assert choice in values or name in MADE_BY_PROMETHEUS, f"{name}{{{label}={choice!r}}} in {expression}"
    documented = set(re.findall(r"^\| `(hk_tick_collector_\w+)` \|", PAGE.read_text(), re.MULTILINE))
    exposed = {re.sub(r"_(bucket|sum|count)$", "", name) for name in samples if name.startswith(PREFIX)}
    assert documented == exposed
    for name in re.findall(r"`(process_\w+)`", PAGE.read_text()):
        assert name in samples


def rule_expressions() -> list[str]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    texts = [rule["annotations"]["description"] for group in groups for rule in group["rules"]]
    named = [name for text in texts for name in re.findall(rf"\b{PREFIX}\w+", text)]
    # A histogram is named whole in a text.
    named = [f"{name}_bucket" if name.endswith("latency_seconds") else name for name in named]
    return [rule["expr"] for group in groups for rule in group["rules"]] + named


def dashboard_expressions() -> list[str]:
    dashboard = json.loads(DASHBOARD.read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    expressions += [annotation["expr"] for annotation in dashboard["annotations"]["list"]]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            expressions.append(re.fullmatch(r"label_values\((.+), \w+\)", variable["query"]["query"])[1])  # type: ignore[index]
    return expressions


def metric_names(expression: str) -> set[str]:
    """Every name in a PromQL expression that is neither function, keyword nor label."""
    bare = re.sub(
        r"\{[^}]*\}|\[[^\]]*\]|\b(by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)", " ", expression
    )
    names = re.findall(r"\b([A-Za-z_:][\w:]*)\b(?!\s*\()", bare)
    return {name for name in names if name not in PROMQL_WORDS | {"sum", "max", "count"}}


def matchers(expression: str) -> list[tuple[str, str, str]]:
    """(metric, label, wanted values) of the selectors, less those on who was scraped."""
    return [
        (name, label, pattern)
        for name, inner in re.findall(r"(\w+)\{([^}]*)\}", expression)
        for label, pattern in re.findall(r'(\w+)=~?"([^"]*)"', inner)
        if label not in ("job", "instance")
    ]


def test_a_metric_that_does_not_exist_would_be_noticed() -> None:
    expression = 'sum by (le, job) (rate(nonsense_total{phase=~"a|b"}[5m])) > 2 and on (job) max(up) == 1e9'
    assert metric_names(expression) == {"nonsense_total", "up"}
    assert matchers(expression) == [("nonsense_total", "phase", "a|b")]


@pytest.fixture
def promtool() -> str:
    path = shutil.which("promtool")
    if path is None:
        pytest.skip("promtool is not installed (Debian package prometheus)")
    return path


def tool(*command: object, text: str | None = None) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=60, input=text, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_promtool_accepts_rules_and_example(promtool: str) -> None:
    rules = re.search(r"SUCCESS: (\d+) rules found", tool(promtool, "check", "rules", RULES))
    assert rules
    assert int(rules[1]) >= 10
    tool(promtool, "check", "config", RULES.with_name("prometheus.yml"))


def test_alerts_fire_when_they_should(promtool: str, tmp_path: Path) -> None:
    cases = RULES.with_name("alerts_test.yml")
    tool(promtool, "test", "rules", cases)
    shutil.copy(cases, tmp_path)
    (tmp_path / RULES.name).write_text(RULES.read_text().replace("> 0", "> 1e12"))
    with pytest.raises(AssertionError, match="HkTickCollectorMissingTicks"):
        tool(promtool, "test", "rules", tmp_path / cases.name)


def test_alerts_of_the_live_channel_fire_when_they_should(promtool: str, tmp_path: Path) -> None:
    rules, cases = RULES.with_name("alerts_live.yml"), RULES.with_name("alerts_live_test.yml")
    assert "SUCCESS: 2 rules found" in tool(promtool, "check", "rules", rules)
    tool(promtool, "test", "rules", cases)
    shutil.copy(cases, tmp_path)
    (tmp_path / rules.name).write_text(rules.read_text().replace("hk_live_held == 1", "hk_live_held == 2"))
    with pytest.raises(AssertionError, match="HkTickLiveHeld"):
        tool(promtool, "test", "rules", tmp_path / cases.name)
    for name in ("HkTickLiveDown", "HkTickLiveHeld"):
        assert f"\n### {name}\n" in PAGE.read_text()


def test_names_and_units_follow_the_conventions(promtool: str, simulator: Simulator, tmp_path: Path) -> None:
    recorder = Measured(tmp_path / "data", simulator.port)
    with ended(recorder):
        recorder.wait_rows(100)
        text = recorder.text()
    assert tool(promtool, "check", "metrics", text=text) == ""


def test_the_page_s_commands_run(simulator: Simulator, tmp_path: Path) -> None:
    blocks = re.findall(r"^```bash\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines()]
    recorder = Measured(tmp_path / "data", simulator.port)
    with ended(recorder):
        recorder.wait_rows(100)
        for command in commands:
            program = command.split()[0]
            if program == "pip" or shutil.which(program) is None:
                continue  # needs the package index, or a program of a package that is not here
            script = command.replace("9810", str(recorder.metrics_port))
            done = subprocess.run(
                ["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
            )
            assert done.returncode == 0, f"{command}: {done.stderr}"
    assert any(command.startswith("curl ") for command in commands)


def test_slow_clients_take_no_descriptor_from_the_store(simulator: Simulator, tmp_path: Path) -> None:
    """A hundred clients that say nothing, and a day file that has to be opened anew."""
    recorder = Measured(
        tmp_path / "data", simulator.port, PERSIST_RETRY_BACKOFF_MAX_SEC=0.5, SQLITE_BUSY_TIMEOUT_MS=200
    )
    with ended(recorder), ExitStack() as stack:
        recorder.wait_rows(300)
        pid = recorder.proc.pid
        used = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 80, hard))
        for _ in range(100):
            stack.enter_context(socket.create_connection(("127.0.0.1", recorder.metrics_port), timeout=30))
        recorder.wait_for("metrics_refused ")
        (db,) = recorder.data_root.glob("????????.db")
        with closing(sqlite3.connect(db, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            recorder.wait_for("sqlite_busy_backoff")  # the writer has let go of the file
            other.execute("ROLLBACK")
        rows = recorder.rows()
        recorder.wait_rows(rows + 300)
        assert "Too many open files" not in recorder.output
        assert "ticks_refused" not in recorder.output
        assert recorder.stop() == 0


def started(tmp_path: Path, without_package: bool = False, **settings: object) -> Process:
    """A recorder without OpenD; it gets as far as it gets."""
    if without_package:
        hide = tmp_path / "hide"
        hide.mkdir()
        (hide / "sitecustomize.py").write_text("import sys\nsys.modules['prometheus_client'] = None\n")
        settings["PYTHONPATH"] = f"{hide}:{os.environ.get('PYTHONPATH', '')}"
    return Recorder(tmp_path / "data", free_port(), SYMBOLS, **settings)


def test_a_taken_port_keeps_nobody_from_recording(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        recorder = started(tmp_path, METRICS_PORT=port)
        with ended(recorder):
            recorder.wait_for(f"metrics_not_listening .*METRICS_PORT={port}: another program listens")
            recorder.wait_for("futu_connect_failed")
            other.close()
            recorder.wait_for(f"metrics_listening host=127.0.0.1 port={port}")
            assert recorder.stop() == 0
            assert "Traceback" not in recorder.output


def test_a_missing_package_ends_the_start_with_78_and_says_how_to_install_it(tmp_path: Path) -> None:
    recorder = started(tmp_path, without_package=True, METRICS_PORT=free_port())
    with ended(recorder):
        assert recorder.wait() == 78
        assert re.search(r"METRICS_PORT .*pip install 'hk-tick-collector\[metrics\]'", recorder.output)
        assert "Traceback" not in recorder.output


def test_without_the_endpoint_the_package_is_not_needed(tmp_path: Path) -> None:
    recorder = started(tmp_path, without_package=True)
    with ended(recorder):
        recorder.wait_for("futu_connect_failed")
        assert recorder.stop() == 0
        assert "metrics_listening" not in recorder.output
