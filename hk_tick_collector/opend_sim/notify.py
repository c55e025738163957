"""Notify pushes (protocol 1003): what OpenD tells its clients about itself when it changes."""

from __future__ import annotations

from typing import Any

from hk_tick_collector.opend_sim import pb
from hk_tick_collector.opend_sim.opend import HISTORY_KL_QUOTA, Standing
from hk_tick_collector.opend_sim.venue import HK, Venue

_notify = pb.load("Notify")
_NO_RIGHT = int(pb.qot_common.QotRight_No)


def changes(before: Standing, now: Standing, venue: Venue = HK) -> list[Any]:
    """One Notify message for each thing that differs."""
    messages = []
    if now.program_status != before.program_status:
        messages.append(program_status(now.program_status))
    if now.qot_logined != before.qot_logined:
        messages.append(conn_status(now.qot_logined))
    if now.right != before.right:
        messages.append(qot_right(now.right, venue))
    if now.quota != before.quota:
        messages.append(api_quota(now.quota))
    return messages


def gtw_event(kind: str, text: str) -> Any:
    """GTW_EVENT; ``kind`` is a name of ``Notify.GtwEventType`` without its prefix, as ``KickedOut``."""
    message = _message(_notify.NotifyType_GtwEvent)
    message.s2c.event.eventType = getattr(_notify, f"GtwEventType_{kind}")
    message.s2c.event.desc = text
    return message


def program_status(status: int) -> Any:
    message = _message(_notify.NotifyType_ProgramStatus)
    message.s2c.programStatus.programStatus.type = status
    return message


def conn_status(qot_logined: bool) -> Any:
    message = _message(_notify.NotifyType_ConnStatus)
    message.s2c.connectStatus.qotLogined = qot_logined
    message.s2c.connectStatus.trdLogined = qot_logined
    return message


def qot_right(right: int, venue: Venue = HK) -> Any:
    message = _message(_notify.NotifyType_QotRight)
    for field in dict.fromkeys(("hkQotRight", "usQotRight", "cnQotRight", *venue.right_fields)):
        setattr(message.s2c.qotRight, field, right if field in venue.right_fields else _NO_RIGHT)
    return message


def api_quota(sub_quota: int) -> Any:
    message = _message(_notify.NotifyType_APIQuota)
    message.s2c.apiQuota.subQuota = sub_quota
    message.s2c.apiQuota.historyKLQuota = HISTORY_KL_QUOTA
    return message


def _message(notify_type: int) -> Any:
    message = _notify.Response()
    message.retType = 0
    message.s2c.type = notify_type
    return message
