"""The one door to the futu-api SDK: a connection that loses nothing, blocks nobody and always ends.

The SDK's ``OpenQuoteContext`` is kept for what it does well (sockets, handshake, encryption, keep-alive, packing of
requests). Around it, ``Context`` replaces what loses data or hangs in futu-api 10.11, point by point:

1. The constructor's endless retry: connecting is asynchronous and one context serves one connection only.
2. The callback queue that is thrown away on disconnect: ticker pushes are read on the network thread as they arrive.
3. The SDK's own reconnect and its half resubscription: switched off; ``sources.session`` owns reconnecting. A new
   context also means a new receive buffer: the SDK would read the next connection from the middle of a cut frame.
4. The unguarded network thread: nothing of ours raises into it, and ``network_thread_alive`` lets others look.
5. Requests that block for up to 20 s, or for ever on a closed context: every request is an awaitable with a timeout,
   ended at once when the connection goes.
6. The DEBUG log file of every push: set to WARNING.
7. ``import futu`` without a usable HOME: a private directory stands in while it lasts, and the SDK logs to no file.
8. The DataFrame of every push: the protobuf is handed on as it is.
9. Notify payloads that the SDK's handler drops: the protobuf is handed on as it is.

``process`` imports the SDK and has what a process has one of, ``context`` is what the network thread runs, and
``connection`` what the loop asks. Bytes that are no frames (``frames_in``) end the connection; the next one backfills.
The names of the SDK's internals used here are held by a test, and futu-api is pinned to one minor. What the answers
hold is described in ``answers``, how to ask for much within OpenD's limits in ``reference``.
"""

from __future__ import annotations

from hk_tick_collector.sources.futu.sdk.process import (
    configure,
    file_log,
    network_thread_alive,
    replace_dead_network_thread,
)

# isort: split
# Not before ``process``, which sees to what an import of futu finds.
from hk_tick_collector.sources.futu.answers import GlobalState, Notice, SubscriptionInfo
from hk_tick_collector.sources.futu.sdk.connection import NAMES, Connection
from hk_tick_collector.sources.futu.sdk.context import decode_security
from hk_tick_collector.sources.futu.sdk.levels import decode_book, decode_broker, decode_brokers, decode_level

__all__ = [
    "NAMES",
    "Connection",
    "GlobalState",
    "Notice",
    "SubscriptionInfo",
    "configure",
    "decode_book",
    "decode_broker",
    "decode_brokers",
    "decode_level",
    "decode_security",
    "file_log",
    "network_thread_alive",
    "replace_dead_network_thread",
]
