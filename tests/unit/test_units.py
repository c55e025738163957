"""The template units are the plain ones with a name in them: a choice made in one is made in both."""

from __future__ import annotations

from pathlib import Path

import pytest

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
    ],
)
def test_a_template_is_its_plain_unit_with_a_name(plain: str, template: str, named: dict[str, str]) -> None:
    wanted = "\n".join(lines(plain))
    for before, after in named.items():
        wanted = wanted.replace(f"{before}\n", f"{after}\n")
    found = lines(template)
    same = [line for line in wanted.splitlines() if not line.startswith("Description=")]
    assert [line for line in found if not line.startswith("Description=")] == same
    (description,) = [line for line in found if line.startswith("Description=")]
    assert "%i" in description
