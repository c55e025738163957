"""Clients for simulator tests: the SDK's own context with handlers that keep what came, and a raw protocol client."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from futu import RET_OK, OpenQuoteContext, SubType, SysNotifyHandlerBase, TickerHandlerBase
from futu.common.ft_logger import logger

from hk_tick_collector.opend_sim import pb, wire
from tests.harness import wait_until

logger.console_level = 50  # the SDK prints every connection to standard output otherwise


class _Ticks(TickerHandlerBase):  # type: ignore[misc]
    def __init__(self, keep: list[Any]) -> None:
        super().__init__()
        self._keep = keep

    def on_recv_rsp(self, rsp_pb: Any) -> tuple[int, None]:
        self._keep.append(rsp_pb.s2c)
        return RET_OK, None


class _Notices(SysNotifyHandlerBase):  # type: ignore[misc]
    def __init__(self, keep: list[Any]) -> None:
        super().__init__()
        self._keep = keep

    def on_recv_rsp(self, rsp_pb: Any) -> tuple[int, Any]:
        ret, content = super().on_recv_rsp(rsp_pb)
        if ret == RET_OK:
            self._keep.append(content)
        return ret, content


class SdkClient:
    """An OpenQuoteContext; ``pushes`` holds the s2c of every tick push, ``notices`` what Notify handlers get."""

    def __init__(self, port: int) -> None:
        self.pushes: list[Any] = []
        self.notices: list[Any] = []
        self.ctx = OpenQuoteContext("127.0.0.1", port)
        self.ctx.set_handler(_Ticks(self.pushes))
        self.ctx.set_handler(_Notices(self.notices))

    def __enter__(self) -> SdkClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        self.ctx.close()

    def subscribe(self, *symbols: str, first_push: bool = True) -> None:
        ret, data = self.ctx.subscribe(list(symbols), [SubType.TICKER], is_first_push=first_push)
        assert ret == RET_OK, data

    def ticks(self, symbol: str | None = None) -> list[Any]:
        return [t for p in self.pushes[:] if symbol in (None, f"HK.{p.security.code}") for t in p.tickerList]

    def seqs(self, symbol: str | None = None) -> list[int]:
        return [t.sequence for t in self.ticks(symbol)]

    def wait_no_more_ticks(self, quiet_sec: float = 0.5) -> int:
        """The number of ticks once none has come for so long; what was under way is in it."""

        def is_quiet() -> bool:
            ticks = len(self.ticks())
            time.sleep(quiet_sec)
            return len(self.ticks()) == ticks

        wait_until(is_quiet, "no more ticks")
        return len(self.ticks())


class RawClient:
    """Speaks the protocol byte by byte."""

    def __init__(self, port: int, timeout_sec: float = 60.0) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout_sec)
        self._serial = 0
        self._lock = threading.Lock()

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        self.sock.close()

    def send(self, proto_id: int, body: bytes, fmt: int = wire.FMT_PROTOBUF) -> int:
        self._serial += 1
        self.sock.sendall(wire.encode_frame(proto_id, self._serial, body, fmt))
        return self._serial

    def receive(self) -> tuple[wire.Header, bytes]:
        """The next frame; EOFError when the simulator closed the connection."""
        header = wire.decode_header(self._read(wire.HEADER_BYTES), max_body_bytes=1 << 30)
        return header, wire.open_body(header, self._read(header.body_bytes))

    def ask(self, proto_id: int, proto: str, request: Any) -> Any:
        """Send a request and read until its answer comes."""
        serial = self.send(proto_id, request.SerializeToString())
        while True:
            header, body = self.receive()
            if (header.proto_id, header.serial) == (proto_id, serial):
                answer = pb.load(proto).Response()
                answer.ParseFromString(body)
                return answer

    def init(self, **fields: Any) -> Any:
        request = pb.load("InitConnect").Request()
        request.c2s.clientVer = 300
        request.c2s.clientID = "raw"
        request.c2s.packetEncAlgo = wire.ENC_NONE
        for name, value in fields.items():
            setattr(request.c2s, name, value)
        answer = self.ask(1001, "InitConnect", request)
        assert answer.retType == 0, answer.retMsg
        return answer

    def subscribe(self, symbols: Sequence[str], sub_type: int = 4) -> Any:
        """With pushes; of ticks, or of another type's number."""
        request = pb.load("Qot_Sub").Request()
        request.c2s.isSubOrUnSub = True
        request.c2s.isRegOrUnRegPush = True
        request.c2s.isFirstPush = False
        request.c2s.subTypeList.append(sub_type)
        for symbol in symbols:
            security = request.c2s.securityList.add()
            security.market = 1
            security.code = symbol[3:]
        return self.ask(3001, "Qot_Sub", request)

    def closed(self) -> bool:
        """True when the simulator ends the connection before the time-out."""
        try:
            while self.sock.recv(1 << 16):
                pass
        except ConnectionError:
            return True
        except TimeoutError:
            return False
        return True

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.sock.recv(size - len(data))
            if not part:
                raise EOFError
            data += part
        return data
