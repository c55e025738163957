"""A real S3-compatible server (SeaweedFS) on free ports of the loopback address, for tests.

It is one program of 150 MB that plays master, volume server, filer and S3 gateway. Only the gateway is spoken to.
"""

from __future__ import annotations

import contextlib
import io
import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import urllib3
from minio import Minio
from minio.error import MinioException

from tests.harness import BIN
from tests.redis_server import free_port

WEED = BIN / "weed"
BUCKET = "ticks"
KEY, SECRET = "testkey", "wJalrXUtnFEMI-secret"
START_SEC = 120  # of a busy machine
START_ATTEMPTS = 3


class S3Server:
    """One server. What it was told survives ``kill`` and ``start``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._ports = {name: _port_pair() for name in ("master", "volume", "filer")}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs to reach it."""
        return {
            "AWS_ENDPOINT_URL_S3": self.url, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
        }  # fmt: skip

    def client(self) -> Minio:
        """A client of its own."""
        pool = urllib3.PoolManager(timeout=30, retries=urllib3.Retry(0))
        return Minio(f"127.0.0.1:{self.port}", KEY, SECRET, secure=False, region="us-east-1", http_client=pool)

    def start(self) -> None:
        """Start it, once more where another program took one of its ports meanwhile."""
        for attempt in range(START_ATTEMPTS):
            self._start()
            if self._wait() or attempt == START_ATTEMPTS - 1:
                break
            self._ports = {name: _port_pair() for name in self._ports}
        assert self.process is not None
        assert self.process.poll() is None, f"weed ended: {(self.directory / 'log').read_text()[-1000:]}"

    def _start(self) -> None:
        self.directory.mkdir(exist_ok=True)
        keys = {"accessKey": KEY, "secretKey": SECRET}
        identity = {"name": "desk", "credentials": [keys], "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
        (self.directory / "s3.json").write_text(json.dumps({"identities": [identity]}))
        ports = [
            f"-{name}.port{kind}={port + grpc * 10_000}"
            for name, port in self._ports.items()
            for grpc, kind in enumerate(("", ".grpc"))
        ]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(WEED), "server", "-s3", f"-dir={self.directory}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", *ports,
                 f"-s3.port={self.port}", f"-s3.port.grpc={free_port()}", f"-s3.config={self.directory / 's3.json'}",
                 "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.volumeSizeLimitMB=64", "-volume.max=20",
                 "-master.telemetry=false"],
                stdout=log, stderr=log, cwd=self.directory,
            )  # fmt: skip

    def _wait(self) -> bool:
        """Does it answer? False when it ended."""
        deadline = time.monotonic() + START_SEC
        while time.monotonic() < deadline:
            assert self.process is not None
            if self.process.poll() is not None:
                return False
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                with contextlib.suppress(MinioException, urllib3.exceptions.HTTPError):
                    self._try()
                    return True
            time.sleep(0.2)
        raise AssertionError(f"weed did not answer: {(self.directory / 'log').read_text()[-2000:]}")

    def _try(self) -> None:
        """Can it store? The gateway answers before the volume server has joined."""
        client = self.client()
        if not client.bucket_exists(BUCKET):
            client.make_bucket(BUCKET)
        client.put_object(BUCKET, "probe", io.BytesIO(b"x" * 5000), 5000)
        client.get_object(BUCKET, "probe").close()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()


def _port_pair() -> int:
    """A free port whose gRPC brother, 10,000 above it, is free as well."""
    while True:
        port = free_port()
        if port < 50_000:
            with contextlib.suppress(OSError), socket.socket() as sock:
                sock.bind(("127.0.0.1", port + 10_000))
                return port
            continue
        with contextlib.suppress(OSError), socket.socket() as low, socket.socket() as high:
            low.bind(("127.0.0.1", port - 30_000))
            high.bind(("127.0.0.1", port - 20_000))
            return port - 30_000


@contextlib.contextmanager
def s3_server(directory: Path) -> Iterator[S3Server]:
    server = S3Server(directory)
    server.start()
    try:
        yield server
    finally:
        server.kill()


@contextlib.contextmanager
def broken_line(port: int, *, most_bytes: int | None = None, drop_sec: float = 0.0) -> Iterator[int]:
    """A port that leads to ``port``, on which an answer breaks off after so many bytes, or comes in drops."""
    listening = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            try:
                near, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=_relay, args=(near, port, most_bytes, drop_sec, stop), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield int(listening.getsockname()[1])
    finally:
        stop.set()
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()


def _relay(near: socket.socket, port: int, most_bytes: int | None, drop_sec: float, stop: threading.Event) -> None:
    with near, socket.create_connection(("127.0.0.1", port)) as far:
        threading.Thread(target=_copy, args=(near, far), daemon=True).start()
        passed = 0
        with contextlib.suppress(OSError):
            while not stop.is_set() and (block := far.recv(64 if drop_sec and passed > 1000 else 65_536)):
                if most_bytes is not None:
                    block = block[: most_bytes - passed]
                near.sendall(block)
                passed += len(block)
                if most_bytes is not None and passed >= most_bytes:
                    near.shutdown(socket.SHUT_RDWR)
                    return
                if drop_sec and passed > 1000:
                    time.sleep(drop_sec)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while block := source.recv(65_536):
            target.sendall(block)
