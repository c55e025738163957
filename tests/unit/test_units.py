"""The template units are the plain ones with a name in them: a choice made in one is made in both."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from hk_tick_collector.alert.settings import load_alert_settings
from hk_tick_collector.cli import universe
from hk_tick_collector.relay.settings import load_relay_settings
from hk_tick_collector.serve.settings import load_serve_settings

UNITS = Path(__file__).resolve().parents[2] / "deploy/systemd"


def lines(name: str) -> list[str]:
    """What systemd reads."""
    return [line for line in (UNITS / name).read_text().splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize(
    ("plain", "template", "named"),
    [
        (
            "hk-tick-collector.service",
            "hk-tick-collector@.service",
            {
                "/data/sqlite/HK": "/data/sqlite/%i",
                "tick_downloader/.env": "tick_downloader/%i.env",
                "SyslogIdentifier=hk-tick-collector": "SyslogIdentifier=hk-tick-collector@%i",
                "RuntimeDirectory=hk-tick-collector": "RuntimeDirectory=hk-tick-collector@%i",
            },
        ),
        (
            "hk-tick-eod.service",
            "hk-tick-eod@.service",
            {
                "/data/sqlite/HK": "/data/sqlite/%i",
                "tick_downloader/.env": "tick_downloader/%i.env",
                "SyslogIdentifier=hk-tick-eod": "SyslogIdentifier=hk-tick-eod@%i",
            },
        ),
        ("hk-tick-eod.timer", "hk-tick-eod@.timer", {}),
        (
            "hk-tick-universe.service",
            "hk-tick-universe@.service",
            {
                "/data/sqlite/HK": "/data/sqlite/%i",
                "tick_downloader/.env ": "tick_downloader/%i.env ",
                "/symbols.txt ": "/symbols-%i.txt ",
                "After=hk-tick-eod.service": "After=hk-tick-eod@%i.service",
                "SyslogIdentifier=hk-tick-universe": "SyslogIdentifier=hk-tick-universe@%i",
            },
        ),
        ("hk-tick-universe.timer", "hk-tick-universe@.timer", {}),
    ],
)
def test_a_template_is_its_plain_unit_with_a_name(plain: str, template: str, named: dict[str, str]) -> None:
    wanted = "\n".join(lines(plain))
    for before, after in named.items():
        end = "" if before.endswith(" ") else "\n"
        wanted = wanted.replace(f"{before}{end}", f"{after}{end}")
    unit_lines = lines(template)
    same = [line for line in wanted.splitlines() if not line.startswith("Description=")]
    assert [line for line in unit_lines if not line.startswith("Description=")] == same
    (description,) = [line for line in unit_lines if line.startswith("Description=")]
    assert "%i" in description


def test_the_choice_of_symbols_is_confined_as_the_end_of_day_is_and_may_ask_opend() -> None:
    own = ("Description=", "ExecStart=", "SyslogIdentifier=", "After=", "Environment=UNIVERSE", "TimeoutStartSec=")
    chosen, day = (
        {line for line in lines(f"hk-tick-{name}.service") if not line.startswith(own)} for name in ("universe", "eod")
    )
    assert chosen - day == {"RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6"}
    assert day - chosen == {"RestrictAddressFamilies=AF_UNIX", "PrivateNetwork=yes"}


def test_the_choice_of_symbols_is_a_command_that_there_is_and_nobody_switches_it_on() -> None:
    (start,) = [line for line in lines("hk-tick-universe.service") if line.startswith("ExecStart=")]
    words = start.split()
    assert (words[1], words[-1]) == ("universe", "$UNIVERSE")
    known = {name for option in universe.command.params for name in option.opts}
    assert {word for word in words if word.startswith("--")} <= known
    scripts = UNITS.parents[1] / "scripts"
    for script in ("install_systemd.sh", "lib_deploy.sh"):
        text = (scripts / script).read_text()
        assert not re.search(r"systemctl enable [^\n]*universe", text)
    for at in ("", "@"):
        installed = rf"hk-tick-\{{eod,universe\}}{at}\.\{{service,timer\}}"
        assert re.search(installed, (scripts / "lib_deploy.sh").read_text())


SERVING = ("api", "live", "redis", "alert")


@pytest.mark.parametrize("name", SERVING[1:])
def test_units_that_serve_are_one_unit_with_names(name: str) -> None:
    own = ("Description=", "After=", "Documentation=", *(("IPAddress", "OnFailure=") if name == "alert" else ()))

    def told(unit: str) -> list[str]:
        return [line for line in lines(f"hk-tick-{unit}.service") if not line.startswith(own)]

    assert told(name) == [line.replace("hk-tick-api", f"hk-tick-{name}") for line in told("api")]


def test_one_target_holds_each_recorder_and_what_serves() -> None:
    """And nothing else: the jobs of the end of the day go by their own hours."""
    held = {path.name for path in UNITS.glob("*.service") if "PartOf=hk-tick.target" in lines(path.name)}
    serving = {f"hk-tick-{name}.service" for name in (*SERVING, "ship")}
    assert held == {"hk-tick-collector.service", "hk-tick-collector@.service"} | serving
    for unit in held:
        assert "WantedBy=multi-user.target hk-tick.target" in lines(unit), unit
    assert "WantedBy=multi-user.target" in lines("hk-tick.target")
    assert not [line for line in lines("hk-tick.target") if line.startswith(("Wants", "Requires"))], "would start all"


@pytest.mark.parametrize("name", SERVING)
def test_what_serves_writes_nothing_of_the_recorders(name: str) -> None:
    unit_lines = lines(f"hk-tick-{name}.service")
    recorders = lines("hk-tick-collector.service")
    assert not [line for line in unit_lines if line.startswith(("ReadWritePaths", "BindPaths", "SupplementaryGroups"))]
    assert {"ProtectSystem=strict", "Restart=always", "UMask=0027"} <= set(unit_lines)
    assert "User=hk-tick-serve" in unit_lines
    assert "Group=hk-tick-collector" in unit_lines
    assert "Group=hk-tick-collector" in recorders


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing (package systemd)")
@pytest.mark.parametrize("name", SERVING)
def test_exposure_of_what_serves(name: str) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", UNITS / f"hk-tick-{name}.service"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    match = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert match is not None, done.stdout
    assert float(match.group(1)) <= 1.5


def test_a_unit_of_ours_that_fails_reaches_the_one_that_calls() -> None:
    without = {"futu-opend.service", "hk-tick-alert.service", "hk-tick-failure@.service"}
    for unit in {path.name for path in UNITS.glob("*.service")} - without:
        assert "OnFailure=hk-tick-failure@%n.service" in lines(unit), unit
    failure, caller = lines("hk-tick-failure@.service"), lines("hk-tick-alert.service")
    for same in ("User=", "Group=", "StateDirectory="):
        assert [line for line in failure if line.startswith(same)] == [line for line in caller if line.startswith(same)]
    assert not [line for line in failure if line.startswith("OnFailure=")], "it would start itself for ever"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing (package systemd)")
def test_systemd_reads_what_a_failure_starts(tmp_path: Path) -> None:
    """As the unit of a template's instance, whose name has an @ in it."""
    unit = tmp_path / "hk-tick-failure@hk-tick-collector@US.service.service"
    text = (UNITS / "hk-tick-failure@.service").read_text()
    unit.write_text(text.replace("/opt/futu_tick_downloader/venv/bin/hk-tickctl", shutil.which("true") or "/bin/true"))
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_signals_are_in_the_units_state_unless_told_otherwise(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("")
    (tmp_path / "own.env").write_text("HOOKS_DIR=signals\n")
    environ = {"STATE_DIRECTORY": "/var/lib/hk-tick-serve"}
    for load in (load_serve_settings, load_relay_settings, load_alert_settings):
        assert load(tmp_path / ".env", environ).hooks_dir == Path("/var/lib/hk-tick-serve/hooks")
        assert load(tmp_path / "own.env", environ).hooks_dir == tmp_path / "signals"
        assert load(tmp_path / ".env", {}).hooks_dir is None
