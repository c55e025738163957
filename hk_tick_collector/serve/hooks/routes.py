"""The addresses of hooks. Who sends is admitted before its body is looked at."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Header, Path, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from hk_tick_collector.serve.api import questions
from hk_tick_collector.serve.api.asking import service_of
from hk_tick_collector.serve.auth import address_of, bearer_of
from hk_tick_collector.serve.hooks.inbox import (
    KEY_PATTERN,
    MAX_BODY_BYTES,
    ML_TRADE,
    AnySignal,
    Inbox,
    MlTrade,
    Sender,
)
from hk_tick_collector.serve.problems import Problem
from hk_tick_collector.store.signals import NAME_PATTERN

router = APIRouter()

Name = Annotated[str, Path(pattern=NAME_PATTERN, description="The hook; a key needs the scope hook:<name>.")]
IdempotencyKey = Annotated[
    str | None, Header(pattern=KEY_PATTERN, description="The same key within a day stores one signal.")
]
_STORED: dict[int | str, dict[str, Any]] = {202: {"description": "It is stored"}}


class Stored(BaseModel):
    """A signal that is safe."""

    number: int
    name: str
    recv_ts_ms: int = Field(description="When it came, UTC epoch milliseconds.")
    cursor: str | None = Field(description="How far the live channel had come then.")
    symbol: str
    is_new: bool = Field(description="False: it was stored before, under the same Idempotency-Key.")


class SignalLine(BaseModel):
    """A signal as it is read back."""

    number: int
    name: str
    recv_ts_ms: int
    cursor: str | None
    symbol: str
    payload: dict[str, Any]


class SignalsAnswer(BaseModel):
    """Signals of a hook."""

    data: list[SignalLine]
    next: int | None = Field(description="What to give as after for more; null: that is all now.")


class SignalsQuery(questions.Query):
    """Which signals."""

    after: int = Field(0, ge=0, le=2**53, description="Only signals with a greater number.")
    limit: int = Field(1000, ge=1, le=1000)


def _inbox_of(request: Request) -> Inbox:
    inbox: Inbox = request.app.state.inbox
    return inbox


def _body_of(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema()
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


@router.post(
    "/v1/hooks/{name}", status_code=202, response_model=Stored, tags=["hooks"], responses=_STORED,
    openapi_extra=_body_of(AnySignal),
)  # fmt: skip
async def receive(request: Request, name: Name, idempotency_key: IdempotencyKey = None) -> Response:
    """Store a signal with the position of the newest tick, for a key with the scope `hook:<name>`.

    Without a key: `X-HK-Time` (epoch seconds, at most 5 minutes off) and `X-HK-Signature`, the HMAC-SHA256 in hex, with
    the hook's secret, of that time, a full stop and the body.
    """
    return await _receive(request, name, idempotency_key)


@router.post(
    "/ml-trade", status_code=202, response_model=Stored, tags=["aliases"], responses=_STORED,
    openapi_extra=_body_of(MlTrade),
)  # fmt: skip
async def ml_trade(request: Request, idempotency_key: IdempotencyKey = None) -> Response:
    """As /v1/hooks/ml-trade."""
    return await _receive(request, ML_TRADE, idempotency_key)


@router.get("/v1/hooks/{name}", response_model=SignalsAnswer, tags=["hooks"])
async def read_back(request: Request, name: Name, query: Annotated[SignalsQuery, Query()]) -> Response:
    """The signals of a hook, oldest first, for a key with the scope `hook:<name>`."""
    admitted = service_of(request).admit(request, f"hook:{name}")
    signals = await _inbox_of(request).stored(name, query.after, query.limit)
    data = [signal.as_json() for signal in signals if admitted.key.may_read(signal.symbol)]
    more = signals[-1].number if len(signals) == query.limit else None
    body = orjson.dumps({"data": data, "next": more})
    headers = {"Cache-Control": "no-store", **admitted.headers}
    return Response(body, headers=headers, media_type="application/json")


async def _receive(request: Request, name: str, idempotency_key: str | None) -> Response:
    inbox, headers = _inbox_of(request), {"Cache-Control": "no-store"}
    signature = request.headers.get("x-hk-signature")
    if signature is not None and bearer_of(request.scope) is None:
        body = await _body(request)
        sender = await _signer(request, name, signature, body)
    else:
        admitted = service_of(request).admit(request, f"hook:{name}")
        headers |= admitted.headers
        sender = Sender(admitted.key.id, admitted.key.may_read)
        body = await _body(request)
    received = await inbox.receive(name, body, sender, idempotency_key)
    told = {key: value for key, value in received.signal.as_json().items() if key != "payload"}
    return Response(
        orjson.dumps({**told, "is_new": received.is_new}), 202, headers=headers, media_type="application/json"
    )


async def _signer(request: Request, name: str, signature: str, body: bytes) -> Sender:
    gate, address = service_of(request).gate, address_of(request.scope)
    gate.check_failed(address)
    if not await _inbox_of(request).signed_by(name, request.headers.get("x-hk-time"), signature, body):
        gate.count_failed(address)
        raise Problem("unauthorized", "the signature or its time is wrong")
    return Sender("signature", lambda _symbol: True, signature)


async def _body(request: Request) -> bytes:
    """The whole body, as soon as it is known not to be too long."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise Problem("too-large", f"a signal has at most {MAX_BODY_BYTES} bytes", hint="send less")
    return body
