"""A reading process: takes questions from standard input, one at a time, and answers on standard output (``wire``).

It is a process of its own because reading days holds the interpreter for long, may take much memory, and must end when
nobody wants the answer any more: it is then killed, and another takes its place. It ends by itself with its server.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from hk_tick_collector.core.errors import CopiesUnavailable, RecorderError, StoreError
from hk_tick_collector.core.logline import RateLimitedLog
from hk_tick_collector.core.unused import without_unused
from hk_tick_collector.serve.api import wire
from hk_tick_collector.serve.keys import Key, KeyLimits
from hk_tick_collector.serve.problems import Problem, problem_of

NICE = 5  # the recorder may share the machine
BUFFER_BYTES = 128 << 10

_limited = RateLimitedLog(logging.getLogger(__name__))


class FrameOut:
    """Frames on a pipe; the body goes out in pieces of BUFFER_BYTES."""

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe
        self.body: BinaryIO = io.BufferedWriter(_Pieces(self), BUFFER_BYTES)

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        """First, once."""
        self.send(wire.HEAD, json.dumps({"status": status, "headers": dict(headers)}).encode())

    def send(self, kind: bytes, payload: bytes | memoryview) -> None:
        """One frame."""
        self._pipe.write(wire.FRAME.pack(kind, len(payload)))
        self._pipe.write(payload)
        self._pipe.flush()


class _Pieces(io.RawIOBase):
    def __init__(self, out: FrameOut) -> None:
        self._out = out

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")[: wire.MAX_FRAME_BYTES]
        self._out.send(wire.DATA, view)
        return len(view)


def key_to_json(key: Key) -> dict[str, Any]:
    """What a reading process has to know of a key."""
    return {"id": key.id, "symbols": list(key.symbols)}


def _key(known: Mapping[str, Any]) -> Key:
    return Key(known["id"], "", ("read",), tuple(known["symbols"]), KeyLimits())


def answer(roots: Any, question: Mapping[str, Any], pipe: BinaryIO) -> None:
    """Answer one question, or say what is in the way."""
    from hk_tick_collector.serve.api import jobs  # noqa: PLC0415 - Arrow takes its time

    out = FrameOut(pipe)
    try:
        rows = jobs.run(roots, question["asked"], _key(question["key"]), out)
        out.body.flush()
    except BrokenPipeError:
        raise
    except (Problem, RecorderError, OSError) as exc:
        if isinstance(exc, (StoreError, CopiesUnavailable, OSError)):  # the rest is the client's affair
            _limited.log(logging.WARNING, "read_failed", job=question["asked"].get("job"), error=exc)
        _refuse(out, problem_of(exc))
    except Exception as exc:  # noqa: BLE001 - a fault of ours: the log has it, the client a sentence
        _limited.log(logging.ERROR, "read_fault", exc_info=True, job=question["asked"].get("job"))
        _refuse(out, problem_of(exc))
    else:
        out.send(wire.END, json.dumps({"rows": rows}).encode())


def _refuse(out: FrameOut, problem: Problem) -> None:
    content = {
        "slug": problem.slug, "detail": problem.detail, "hint": problem.hint,
        "errors": [list(error) for error in problem.errors], "headers": problem.headers, "more": problem.more,
    }  # fmt: skip
    out.send(wire.PROBLEM, json.dumps(content).encode())


def main() -> int:
    """Until standard input ends. The first argument says, as JSON, where days are; the second, if there is one, is the
    directory of this process's temporary files, which goes with it."""
    try:
        with contextlib.suppress(BrokenPipeError), without_unused():
            _serve()
    finally:
        for own in sys.argv[2:]:
            shutil.rmtree(own, ignore_errors=True)
    return 0


def _serve() -> None:
    from hk_tick_collector.serve.api import jobs  # noqa: F401, PLC0415 - before the first question
    from hk_tick_collector.serve.api.older import OlderAt  # noqa: PLC0415
    from hk_tick_collector.serve.api.roots import Roots  # noqa: PLC0415

    with contextlib.suppress(PermissionError):  # a unit may forbid it; readers then have the server's share
        os.nice(NICE)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    pipe = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever a library prints is no frame
    told = json.loads(sys.argv[1])
    older = OlderAt(*told["older"]).open() if told["older"] else None
    roots = Roots(((Path(data), Path(archive)) for data, archive in told["roots"]), older=older)
    raw = io.BufferedWriter(pipe, 64 << 10)
    raw.write(wire.FRAME.pack(wire.HEAD, 0))  # ready
    raw.flush()
    while line := sys.stdin.buffer.readline(wire.MAX_QUESTION_BYTES):
        answer(roots, json.loads(line), raw)


if __name__ == "__main__":
    sys.exit(main())
