"""One client's connection: reads frames, answers each request in turn, sends pushes.

What cannot be read on (bad magic, length over the bound, wrong SHA-1, body that does not decrypt) closes the
connection with a log line. What can be read but not served (unknown protocol, undecodable body, a refused request)
gets an error answer; a request never hangs unless a fault says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import DecodeError

from hk_tick_collector.core.logline import RateLimitedLog, event
from hk_tick_collector.opend_sim import pb, wire
from hk_tick_collector.opend_sim.opend import Client, OpenD
from hk_tick_collector.opend_sim.outlet import Outlet
from hk_tick_collector.opend_sim.routes import INIT_CONNECT, ROUTES, Route
from hk_tick_collector.opend_sim.subscriptions import Key, NotAnswered, Refused

INIT_TIMEOUT_SEC = 30.0
_HANG_POLL_SEC = 0.05
_TRADING = range(2000, 3000)  # Futu's numbers of Trd_*

_log = logging.getLogger(__name__)
_refusals = RateLimitedLog(_log)
# Every response has retType, retMsg and errCode as fields 1 to 3, so this one can carry any refusal.
_error_answer = pb.load("KeepAlive").Response
RET_FAILED = int(pb.common.RetType_Failed)


def _not_served(proto_id: int) -> str:
    if proto_id in _TRADING:
        return f"trading is not simulated: this OpenD serves quotes alone (protocol {proto_id}); orders need a real one"
    return f"protocol {proto_id} is not simulated"


class EncodedPush:
    """A push message whose frame is made once for each body format and shared by all who are not encrypted."""

    __slots__ = ("_bodies", "_frames", "_message", "_proto_id", "_serial")

    def __init__(self, proto_id: int, serial: int, message: Any, body: bytes | None = None) -> None:
        """``body``: the message as protobuf, where that is there already; then ``message`` is called when somebody
        wants it in JSON, and gets it."""
        self._proto_id = proto_id
        self._serial = serial & 0xFFFFFFFF
        self._message = message
        self._bodies: dict[int, bytes] = {} if body is None else {wire.FMT_PROTOBUF: body}
        self._frames: dict[int, bytes] = {}

    def frame(self, fmt: int, cipher: wire.Cipher | None) -> bytes:
        if cipher is not None:
            return wire.encode_frame(self._proto_id, self._serial, self._body(fmt), fmt, cipher)
        if fmt not in self._frames:
            self._frames[fmt] = wire.encode_frame(self._proto_id, self._serial, self._body(fmt), fmt)
        return self._frames[fmt]

    def _body(self, fmt: int) -> bytes:
        body = self._bodies.get(fmt)
        if body is None:
            message = self._message(self._bodies[wire.FMT_PROTOBUF]) if self._bodies else self._message
            return encode_body(message, fmt)
        return body


def encode_body(message: Any, fmt: int) -> bytes:
    """The message as protobuf or JSON. Fields that a fault left out may be missing."""
    if fmt == wire.FMT_JSON:
        return str(json_format.MessageToJson(message)).encode()
    return bytes(message.SerializePartialToString())


class ClientSession:
    """Serves one connection until it ends. ``on_first_push`` pushes what is cached of new subscriptions."""

    def __init__(
        self,
        opend: OpenD,
        client: Client,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        rsa: wire.RsaCipher | None,
        on_first_push: Callable[[int, Sequence[Key]], None],
    ) -> None:
        self.client = client
        self.outlet = Outlet(writer, opend.faults, opend.settings.max_buffer_bytes, client.conn_id)
        self._opend = opend
        self._reader = reader
        self._rsa = rsa
        self._aes: wire.AesCipher | None = None
        self._on_first_push = on_first_push

    async def serve(self) -> str:
        """Answer until the connection ends; why it ended."""
        try:
            async with asyncio.timeout(INIT_TIMEOUT_SEC):
                first = await self._reader.readexactly(wire.HEADER_BYTES)
            await self._serve_request(first)
            while True:
                await self._serve_request(await self._reader.readexactly(wire.HEADER_BYTES))
        except asyncio.IncompleteReadError:
            return "overflow" if self.outlet.overflowed else "closed"
        except TimeoutError:
            return f"no request within {INIT_TIMEOUT_SEC:.0f} s"
        except ConnectionError:
            return "overflow" if self.outlet.overflowed else "lost"
        except wire.FrameError as err:
            _log.warning(event("bad_frame", conn=self.client.conn_id, reason=err, action="disconnect"))
            return "bad frame"

    def push(self, pushes: Sequence[EncodedPush]) -> None:
        """Send pushes in this client's format and encryption."""
        fmt = self.client.push_fmt
        self.outlet.push([push.frame(fmt, self._aes) for push in pushes])

    async def _serve_request(self, header_bytes: bytes) -> None:
        header = wire.decode_header(header_bytes)
        body = await self._reader.readexactly(header.body_bytes)
        body = self._open(header, body)
        under_way_sec = await self._wait_for_faults()
        try:
            answer, route = self._answer(header, body)
        except NotAnswered:
            return
        if under_way_sec:
            await asyncio.sleep(under_way_sec)
        self.outlet.send(self._frame(header, answer))
        self._after_answer(route)
        await self.outlet.room()

    def _open(self, header: wire.Header, body: bytes) -> bytes:
        if header.proto_id != INIT_CONNECT:
            return wire.open_body(header, body, self._aes)
        if wire.sha1_of(body) == header.sha1:
            return body
        if self._rsa is None:
            raise wire.FrameError("wrong SHA-1 in InitConnect; if the client encrypts, this needs its key in --rsa-key")
        return wire.open_body(header, body, self._rsa)

    async def _wait_for_faults(self) -> float:
        """Wait as long as faults want; the seconds that the answer is to be under way."""
        # A fault ends by time or by command; there is no event to wait for.
        while self._opend.faults.active("hang") is not None:
            if not self.outlet.is_open():
                raise ConnectionError("dropped while hanging")
            await asyncio.sleep(_HANG_POLL_SEC)
        fault = self._opend.faults.hit("delay-answers")
        if fault is None:
            return 0.0
        if fault.kind == "under-way":
            return fault.ms / 1000
        await asyncio.sleep(fault.ms / 1000)
        return 0.0

    def _answer(self, header: wire.Header, body: bytes) -> tuple[Any, Route | None]:
        route = ROUTES.get(header.proto_id)
        try:
            if route is None:
                raise Refused(_not_served(header.proto_id))
            if route.needs_init and not self.client.initialized:
                raise Refused("InitConnect must be the first request of a connection")
            if route.needs_login and self._opend.logged_out():
                raise Refused("OpenD is not logged in to the quote server")
            request = self._decode(route, header, body)
            self._opend.limiter.admit(header.proto_id)
            answer = route.response()
            answer.retType = 0
            route.handler(self._opend, self.client, request.c2s, answer.s2c)
        except Refused as err:
            return self._refusal(header, str(err)), None
        except NotAnswered:
            raise
        except Exception:  # noqa: BLE001 - the edge: one broken request must not end the others
            _log.exception(event("handler_failed", conn=self.client.conn_id, proto=header.proto_id))
            return self._refusal(header, "internal error of the simulator, see its log"), None
        return answer, route

    def _decode(self, route: Route, header: wire.Header, body: bytes) -> Any:
        request = route.request()
        try:
            if header.fmt == wire.FMT_JSON:
                json_format.Parse(body, request)
            else:
                request.ParseFromString(body)
        except (DecodeError, json_format.ParseError, UnicodeDecodeError) as err:
            raise Refused(f"the body of protocol {header.proto_id} cannot be read: {err}") from err
        if not request.IsInitialized():
            missing = ", ".join(request.FindInitializationErrors())
            raise Refused(f"the body of protocol {header.proto_id} lacks {missing}")
        return request

    def _refusal(self, header: wire.Header, text: str) -> Any:
        conn_id, proto_id = self.client.conn_id, header.proto_id
        _refusals.log(logging.INFO, "request_refused", key=str(proto_id), conn=conn_id, proto=proto_id, reason=text)
        answer = _error_answer()
        answer.retType = RET_FAILED
        answer.retMsg = text
        return answer

    def _frame(self, header: wire.Header, answer: Any) -> bytes:
        cipher: wire.Cipher | None = self._aes
        if header.proto_id == INIT_CONNECT:
            cipher = self._rsa if self.client.enc_algo != wire.ENC_NONE else None
        return wire.encode_frame(header.proto_id, header.serial, encode_body(answer, header.fmt), header.fmt, cipher)

    def _after_answer(self, route: Route | None) -> None:
        client = self.client
        if route is not None and route is ROUTES[INIT_CONNECT] and client.enc_algo != wire.ENC_NONE:
            self._aes = wire.AesCipher(client.enc_algo, client.aes_key, client.aes_iv)
        if client.first_push:
            keys = list(client.first_push)
            client.first_push.clear()
            self._on_first_push(client.conn_id, keys)
