"""The file of targets: every mistake at once, no secret in any of it; and quiet hours."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from hk_tick_collector.alert.targets import TargetSettings, read_targets
from hk_tick_collector.core.complaint import Level
from hk_tick_collector.core.errors import ConfigError

GOOD = """
[[targets]]
name = "channel"
discord = "https://example.org/api/webhooks/1/TOKEN4"
mention = 77
signals = ["ml-trade"]

[[targets]]
name = "desk"
webhook = "https://example.org/hook/TOKEN1"
secret = "0123456789abcdef0123"
quiet = "22:30-07:30"

[[targets]]
name = "phone"
apprise = "ntfy://TOKEN2"
levels = ["alert"]
digest = false

[deadman]
url = "https://example.org/ping/TOKEN3"
every_sec = 30

[rules.ticks_late]
for_sec = 1200
[rules.holes_open]
is_off = true
"""


def written(tmp_path: Path, text: str, mode: int = 0o640) -> Path:
    path = tmp_path / "alerts.toml"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_good_file_is_read(tmp_path: Path) -> None:
    targets = read_targets(written(tmp_path, GOOD))
    assert [target.name for target in targets.targets] == ["channel", "desk", "phone"]
    assert (targets.targets[0].mention, targets.targets[0].signals) == (77, ("ml-trade",))
    assert targets.deadman is not None
    assert targets.deadman.every_sec == 30
    assert targets.rules["ticks_late"].for_sec == 1200
    assert "TOKEN" not in repr(targets)


def test_every_mistake_is_said_at_once_and_no_secret(tmp_path: Path) -> None:
    text = """
    [[targets]]
    name = "Desk!"
    webhook = "ftp://TOKEN1"
    quiet = "25:00-07:00"
    zone = "Mars/Olympus"
    levels = ["loud"]
    colour = "red"
    [[targets]]
    name = "phone"
    apprise = 7
    mention = -1
    signals = ["ML trade"]
    [deadman]
    url = "TOKEN3"
    every_sec = 0
    [rules.no_such]
    for_sec = 1
    """
    with pytest.raises(ConfigError) as refused:
        read_targets(written(tmp_path, text))
    told = str(refused.value)
    for place in ("targets.1.name", "targets.1.webhook", "targets.1.quiet", "targets.1.zone", "targets.1.levels.1",
                  "targets.1.colour", "targets.2.apprise", "targets.2.mention",
                  "targets.2.signals.1", "deadman.url", "deadman.every_sec"):  # fmt: skip
        assert f"{place}:" in told
    assert "rules.no_such: there is no such rule; one of: books" in told, "also what only shows between entries"
    assert "mention is for discord" in told
    assert "TOKEN" not in told


@pytest.mark.parametrize("page", ["alerts.md", "alerts.zh-Hant.md"])
def test_the_file_that_the_page_shows_is_one(tmp_path: Path, page: str) -> None:
    text = (Path(__file__).parents[3] / "docs" / page).read_text(encoding="utf-8")
    targets = read_targets(
        written(tmp_path, text.partition("```toml\n")[2].partition("```")[0].replace('"..."', '"123456:abcdef"'))
    )
    assert [target.name for target in targets.targets] == ["desk", "mail", "pager", "chat"]


def test_mistakes_between_entries_are_said(tmp_path: Path) -> None:
    text = GOOD.replace('name = "phone"', 'name = "desk"').replace("holes_open", "holes_opn")
    text = text.replace('apprise = "ntfy://TOKEN2"', 'secret = "0123456789abcdef0123"')
    with pytest.raises(ConfigError) as refused:
        read_targets(written(tmp_path, text))
    for part in (
        "desk is there twice",
        "rules.holes_opn: there is no such rule: did you mean holes_open?",
        "one of webhook, discord, telegram, apprise",
    ):
        assert part in str(refused.value)


@pytest.mark.parametrize("text", ["", "targets = 3", "[[targets]", "\x00", "[deadman]\nurl='https://x.org'"])
def test_what_is_no_such_file_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"alerts\.toml"):
        read_targets(written(tmp_path, text))


def test_a_file_that_others_may_read_a_link_and_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="chmod 640"):
        read_targets(written(tmp_path, GOOD, 0o644))
    with pytest.raises(ConfigError, match="ALERT_FILE"):
        read_targets(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="ALERT_FILE"):
        read_targets(tmp_path)


@pytest.mark.parametrize(
    ("hours", "at", "is_quiet"),
    [
        ("22:30-07:30", "2026-11-20T14:29:00", False),  # 22:29 in Hong Kong
        ("22:30-07:30", "2026-11-20T14:30:00", True),
        ("22:30-07:30", "2026-11-20T23:29:00", True),
        ("22:30-07:30", "2026-11-20T23:30:00", False),
        ("12:00-13:00", "2026-11-20T04:30:00", True),
        ("12:00-13:00", "2026-11-20T05:00:00", False),
    ],
)
def test_quiet_hours_let_alerts_through_alone(hours: str, at: str, is_quiet: bool) -> None:
    now_ms = int(datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp() * 1000)
    target = TargetSettings(name="desk", quiet=hours)
    assert target.is_quiet(now_ms) is is_quiet
    assert target.takes(Level.ALERT, now_ms)
    assert target.takes(Level.WARN, now_ms) is not is_quiet
    assert not TargetSettings(name="desk", levels=("warn",)).takes(Level.ALERT, now_ms)


def test_mistakes_are_in_plain_words_and_show_nothing_raw(tmp_path: Path) -> None:
    text = '[[targets]]\nname = "x y"\nwebhook = "https://example.org"\n[hooks."\\u001b[2J"]\nsilent_sec = 5\n'
    file = tmp_path / "alerts.toml"
    file.write_text(text)
    file.chmod(0o640)
    with pytest.raises(ConfigError) as told:
        read_targets(file)
    lines = str(told.value).splitlines()
    assert "alerts.toml: targets.1.name: a name has small letters, digits and -, 32 at most" in lines
    assert len(lines) == 3, "the name, the hook's name, and its time"
    assert not any(word in str(told.value) for word in ("Value error", "Tuple", "[key]", "\x1b"))


def test_a_key_that_is_none_is_told_with_the_one_that_was_meant(tmp_path: Path) -> None:
    path = tmp_path / "alerts.toml"
    path.write_text('[[target]]\nname = "desk"\n[deadman]\nurl = "https://example.org"\nbaker_street = 1\n')
    path.chmod(0o640)
    with pytest.raises(ConfigError) as told:
        read_targets(path)
    assert "target: is not a key that is known here: did you mean targets?" in str(told.value)
    assert "deadman.baker_street: is not a key that is known here; docs/alerts.md has all" in str(told.value)
