"""Which symbols an endpoint knows, as far as it shows: on a connection of its own, for ``hk-tickctl doctor``.

dxLink acknowledges no subscription and refuses no symbol: one that it does not know is silent, as one is that does not
trade. But of a symbol that it knows there is a description (``messages.DESCRIPTIONS``), which the contract TICKER shows
at once. That an unknown one has none is a conclusion from dxFeed's documents, and was not seen on a live endpoint; so
silence is no more than a hint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.sources.dxlink import messages
from hk_tick_collector.sources.dxlink.conversation import Conversation
from hk_tick_collector.sources.dxlink.mapping import TradeMapper
from hk_tick_collector.sources.dxlink.tokens import Tokens
from hk_tick_collector.sources.remote.conversation import Loss
from hk_tick_collector.sources.source import Sink


class Lookup(Conversation):
    """Asks for the descriptions of ``symbols``, in dxFeed's spelling, ``batch`` of them a message."""

    def __init__(
        self, tokens: Tokens, mapper: TradeMapper, sink: Sink, clock: Clock, symbols: Sequence[str], batch: int
    ) -> None:
        self.loss = Loss()
        super().__init__(tokens, mapper, sink, clock, self.loss.report)
        self.unheard = set(symbols)
        """Of which none came so far. Changed on the thread alone."""
        self._parts = [symbols[at : at + batch] for at in range(0, len(symbols), batch)]
        self._fields: dict[str, list[Any]] = {}

    async def greet(self) -> None:
        """Let in, and all of them asked for."""
        await self.enter(messages.request_newest())
        await self.send(messages.describe_setup())
        for part in self._parts:
            await self.send(messages.describe(part))
        self.opened.set_result(None)

    def take(self, message: Mapping[str, Any]) -> None:
        """Descriptions, and how they are told."""
        fields = message.get("eventFields")
        if message["type"] == "FEED_DATA":
            self._note(message.get("data"))
        elif message["type"] == "FEED_CONFIG" and isinstance(fields, dict):
            told = {name: fields[name] for name in messages.DESCRIPTIONS if isinstance(fields.get(name), list)}
            self._fields.update(told)
        else:
            super().take(message)

    def _note(self, data: object) -> None:
        if not isinstance(data, list):
            return
        for event in data:
            if isinstance(event, dict):
                self._note_symbols([event.get("eventSymbol")])
        for name, values in zip(data[::2], data[1::2], strict=False):
            fields = self._fields.get(name, []) if isinstance(name, str) else []
            if isinstance(values, list) and "eventSymbol" in fields:
                self._note_symbols(values[fields.index("eventSymbol") :: len(fields)])

    def _note_symbols(self, symbols: Sequence[Any]) -> None:
        self.unheard.difference_update(symbol for symbol in symbols if isinstance(symbol, str))
