"""A file that is written while we read: what is whole is read once, and a file made anew from its beginning."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hk_tick_collector.core.errors import StoreCorrupt
from hk_tick_collector.sources.sierra.growing import START, TAIL_RECORDS, Look, look
from hk_tick_collector.sources.sierra.scid import ScidError
from tests.nights import examples
from tests.scid_files import Trade, append, header, run_of, scid_bytes, write_scid

DAY_US = 1_795_176_000_000_000


def packed(trades: list[Trade]) -> bytes:
    return b"".join(trade.pack() for trade in trades)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ESZ26_FUT_CME.scid"


def test_only_what_came_since_is_read(path: Path) -> None:
    trades = run_of(DAY_US, 60)
    write_scid(path, trades[:50])
    first = look(path)
    assert (first.data, first.first_index, first.began_anew, first.more) == (packed(trades[:50]), 0, False, False)
    assert look(path, first.position).data == b""
    append(path, trades[50:])
    second = look(path, first.position)
    assert (second.data, second.first_index, second.began_anew) == (packed(trades[50:]), 50, False)
    assert len(second.position.tail) == TAIL_RECORDS * 40


def test_a_large_file_is_read_in_parts(path: Path) -> None:
    trades = run_of(DAY_US, 25)
    write_scid(path, trades)
    position, parts = START, []
    while True:
        part = look(path, position, max_records=10)
        parts.append(part.data)
        position = part.position
        if not part.more:
            break
    assert [len(data) // 40 for data in parts] == [10, 10, 5]
    assert b"".join(parts) == packed(trades)


@pytest.mark.parametrize("torn", [1, 39])
def test_a_record_is_read_when_it_is_whole(path: Path, torn: int) -> None:
    trades = run_of(DAY_US, 3)
    path.write_bytes(scid_bytes(trades)[: -40 + torn])
    part = look(path)
    assert part.data == packed(trades[:2])
    write_scid(path, trades)
    assert look(path, part.position).data == packed(trades[2:])


def test_a_header_is_waited_for(path: Path) -> None:
    path.write_bytes(header()[:20])
    assert look(path) == Look(START)
    path.write_bytes(header())
    part = look(path)
    assert part.data == b""
    append(path, run_of(DAY_US, 2))
    assert look(path, part.position).data == packed(run_of(DAY_US, 2))


def _cut(path: Path) -> None:
    path.write_bytes(scid_bytes(run_of(DAY_US, 20)))


def _made_anew_smaller(path: Path) -> None:
    write_scid(path, run_of(DAY_US + 1, 7))


def _made_anew_larger(path: Path) -> None:
    write_scid(path, run_of(DAY_US - 5_000_000, 90))


def _edited_before_the_end(path: Path) -> None:
    trades = run_of(DAY_US, 50)
    write_scid(path, [*trades[:45], Trade(trades[45].us, price=4000.0), *trades[46:]])


def _first_record_edited(path: Path) -> None:
    trades = run_of(DAY_US, 50)
    write_scid(path, [Trade(DAY_US, price=4000.0), *trades[1:]])


def _backup_put_back(path: Path) -> None:
    older = path.with_name("backup")
    write_scid(older, run_of(DAY_US, 30))
    shutil.move(older, path)


def _emptied(path: Path) -> None:
    path.write_bytes(header())


def _emptied_wholly(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    "change",
    [
        _cut, _made_anew_smaller, _made_anew_larger, _edited_before_the_end, _first_record_edited, _backup_put_back,
        _emptied, _emptied_wholly,
    ],
)  # fmt: skip
def test_a_file_that_is_another_one_is_read_from_its_beginning(path: Path, change: object) -> None:
    write_scid(path, run_of(DAY_US, 50))
    position = look(path).position
    change(path)  # type: ignore[operator]
    part = look(path, position)
    assert part.began_anew
    assert part.data == path.read_bytes()[56:]
    assert look(path, part.position).data == b""


def test_a_file_is_never_written_nor_locked(path: Path) -> None:
    write_scid(path, run_of(DAY_US, 5))
    path.chmod(0o444)
    before = path.stat()
    assert len(look(path).data) == 200
    after = path.stat()
    assert (before.st_mtime_ns, before.st_size, before.st_ino) == (after.st_mtime_ns, after.st_size, after.st_ino)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        look(tmp_path / "absent.scid")
    os.mkfifo(tmp_path / "pipe.scid")
    with pytest.raises(StoreCorrupt, match="not a regular file"):
        look(tmp_path / "pipe.scid")


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=4), st.booleans())
def test_any_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes], is_scid: bool
) -> None:
    path = tmp_path_factory.mktemp("any") / "any.scid"
    position, content = START, header() if is_scid else b""
    for part in parts:
        content += part
        path.write_bytes(content)
        try:
            seen = look(path, position)
        except ScidError:
            assert not is_scid
            return
        assert len(seen.data) % 40 == 0 or seen.layout != (56, 40)
        position = seen.position
        if is_scid:
            assert position.records == (len(content) - 56) // 40


Step = st.tuples(st.sampled_from(["append", "torn", "cut", "anew", "look"]), st.integers(1, 30))


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(Step, max_size=25))
def test_whatever_happens_to_a_file_its_last_state_is_read_whole(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    """Who takes what each look gives, and begins anew when told, ends with exactly the records of the file."""
    path = tmp_path_factory.mktemp("grow") / "g.scid"
    content, position, taken, made = header(), START, b"", 0
    for action, count in [*steps, ("look", 1), ("look", 1)]:
        whole = content[: 56 + (len(content) - 56) // 40 * 40]
        if action == "append":
            content = whole + packed(run_of(DAY_US + made, count))
        elif action == "torn":
            content = whole + packed(run_of(DAY_US + made, 1))[: count + 5]
        elif action == "cut":
            content = header() + whole[56:][: 40 * count]
        elif action == "anew":
            content = header() + packed(run_of(DAY_US + 7 + made, count))
        made += 1000
        path.write_bytes(content)
        if action == "look":
            seen = look(path, position)
            taken = seen.data if seen.began_anew else taken + seen.data
            position = seen.position
    assert taken == content[56:][: (len(content) - 56) // 40 * 40]
