"""How somebody is reached: the way that a target's settings name."""

from __future__ import annotations

from hk_tick_collector.alert.discord import Discord
from hk_tick_collector.alert.targets import Apprise, Target, TargetSettings, Webhook
from hk_tick_collector.alert.telegram import Telegram


def target_of(settings: TargetSettings) -> Target:
    """How somebody is reached."""
    if settings.webhook is not None:
        secret = None if settings.secret is None else settings.secret.get_secret_value()
        return Webhook(settings.webhook.get_secret_value(), secret)
    if settings.telegram is not None:
        return Telegram(settings.telegram)
    if settings.discord is not None:
        return Discord(settings.discord.get_secret_value(), settings.mention)
    assert settings.apprise is not None
    return Apprise(settings.apprise.get_secret_value())
