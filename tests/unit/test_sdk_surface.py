"""futu-api's internals that ``sources/futu/sdk`` leans on: an upgrade that moves one of them fails here, by name."""

from __future__ import annotations

import inspect
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hk_tick_collector.sources.futu import frames_in

from futu.common import network_manager, open_context_base, utils  # isort: skip
from futu.common.open_context_base import OpenContextBase, ReqInfo  # isort: skip


@pytest.mark.parametrize(
    "name",
    [
        "_wait_reconnect", "_handle_init_connect_rsp", "_pop_all_req_info", "_close_callback_executor", "on_connect",
        "on_disconnect", "on_recv", "handle_push", "can_send_proto", "is_encrypt", "close", "get_sync_conn_id",
        "get_login_user_id",
    ],
)  # fmt: skip
def test_the_context_has(name: str) -> None:
    assert callable(getattr(OpenContextBase, name))


@pytest.mark.parametrize(
    ("attribute", "source"),
    [
        ("_auto_reconnect", OpenContextBase.__init__), ("_lock", OpenContextBase.__init__),
        ("_req_map", OpenContextBase.__init__), ("_net_mgr", OpenContextBase.__init__),
        ("_conn_id", OpenContextBase.__init__), ("_status", OpenContextBase.__init__),
        ("_last_recv_time", OpenContextBase.on_tick), ("_wait_reconnect(0)", OpenContextBase.__init__),
        ("_default_inst", network_manager.NetManager.default),
        ("_default_inst_lock", network_manager.NetManager.default),
        ("_thread", network_manager.NetManager.__init__),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_the_sdk_still_uses(attribute: str, source: object) -> None:
    assert attribute in inspect.getsource(source)  # type: ignore[arg-type]


def test_a_request_is_finished_through_its_event() -> None:
    """An object with ``set`` in the place of the event is what makes a request awaitable."""
    calls: list[str] = []

    class Event:
        def set(self) -> None:
            calls.append("set")

    info = ReqInfo(proto_id=1, serial_no=2, req_time=0.0, is_sync=False)
    info.event = Event()
    assert info.is_sync
    info.notify_finish()
    assert calls == ["set"]


def test_our_header_is_the_sdks() -> None:
    assert frames_in.HEAD.size == utils.get_message_head_len() == 44
    head = frames_in.HEAD.pack(b"FT", 3011, 0, 0, 7, 5, b"x" * 20, b"y" * 8)
    told = utils.parse_head(head)
    assert (told["proto_id"], told["serial_no"], told["body_len"], told["sha20"]) == (3011, 7, 5, b"x" * 20)


def test_connect_reports_with_the_arguments_we_take() -> None:
    assert list(inspect.signature(OpenContextBase.on_connect).parameters) == ["self", "conn_id", "conn_info"]
    assert list(inspect.signature(OpenContextBase.on_disconnect).parameters) == ["self", "conn_id", "reason", "msg"]
    assert list(inspect.signature(open_context_base.OpenContextBase.handle_push).parameters)[1:] == [
        "conn_id", "proto_id", "serial_no", "rsp_pb", "err", "msg",
    ]  # fmt: skip


@pytest.mark.parametrize("home", ["/proc/nowhere", "", None])
def test_without_a_usable_home_the_sdk_works_and_leaves_nothing_behind(tmp_path: Path, home: str | None) -> None:
    """Not even what it logs later, nor on an end without a goodbye."""
    program = """if True:
        import os, signal, tempfile
        from hk_tick_collector.sources.futu import sdk
        from hk_tick_collector.sources.futu.sdk.process import sdk_logger
        sdk.configure()
        sdk_logger.warning("to no file, and not to stderr either")
        print(repr(os.environ.get("HOME")), sdk.file_log(), os.listdir(tempfile.gettempdir()), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    env = {key: value for key, value in os.environ.items() if key != "HOME"} | {"TMPDIR": str(tmp_path)}
    if home is not None:
        env["HOME"] = home
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (-9, "")
    assert done.stdout == f"{home!r} (None, {logging.WARNING}) []\n"


def test_with_a_home_its_log_stands_there(tmp_path: Path) -> None:
    program = (
        "from hk_tick_collector.sources.futu.sdk.process import file_log, sdk_logger; sdk_logger.warning('said'); "
        "print(file_log()[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "HOME": str(tmp_path)}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    directory = Path(done.stdout.strip())
    assert tmp_path in directory.parents, done.stderr
    (log,) = directory.glob("*.log")
    assert "said" in log.read_text()
