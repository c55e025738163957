"""What a client of the simulated OpenD was sent, without a network between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hk_tick_collector.opend_sim import wire
from hk_tick_collector.opend_sim.session import EncodedPush


class Inbox:
    """What one client was sent, by protocol id. ``protos``: the message of each id."""

    def __init__(self, protos: Mapping[int, Callable[[], Any]]) -> None:
        self.messages: list[tuple[int, Any]] = []
        self._protos = protos

    def push(self, pushes: Sequence[EncodedPush]) -> None:
        for push in pushes:
            frame = push.frame(wire.FMT_PROTOBUF, None)
            header = wire.decode_header(frame[: wire.HEADER_BYTES])
            message = self._protos[header.proto_id]()
            message.ParseFromString(wire.open_body(header, frame[wire.HEADER_BYTES :]))
            self.messages.append((header.proto_id, message.s2c))

    def of(self, proto_id: int) -> list[Any]:
        return [s2c for message_id, s2c in self.messages if message_id == proto_id]
