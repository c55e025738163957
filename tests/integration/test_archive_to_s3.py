"""The built hk-tickctl against a real S3-compatible server: archive --to, verify, retain and restore --from."""

from __future__ import annotations

import hashlib
import io
import itertools
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import polars
import pyarrow.dataset
import pytest
import urllib3
from pyarrow.fs import S3FileSystem

from hk_tick_collector.archive import copies, pack, places, s3, s3_lines, stores
from hk_tick_collector.core.errors import ConfigError, InputError, StoreCorrupt, StoreUnavailable
from hk_tick_collector.days.manifest import manifest_path, parquet_path, signature_path
from hk_tick_collector.store.writer import DayFileWriter
from tests.integration.test_tickctl_archive import rows
from tests.s3_server import BUCKET, KEY, SECRET, WEED, S3Server, broken_line, s3_server
from tests.tickctl import day_ticks, record_day, tickctl, tickctl_json

DAYS = ("20251117", "20251118", "20251119")
DAY = DAYS[0]
MB = 1024 * 1024

pytestmark = pytest.mark.skipif(not WEED.exists(), reason="SeaweedFS is not installed")
numbers = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as s3:
        yield s3


@pytest.fixture
def place(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A place of its own in the bucket, and what this process needs to reach it."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/hk/desk-{next(numbers)}"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    root.mkdir()
    return root


def archived_at(root: Path, data: Path, day: str = DAY) -> Path:
    pack.archive_day(data, root, day, ("parquet",), made_at_ms=0)
    return root


def test_days_go_to_a_bucket_and_come_back_on_another_machine(data: Path, place: str, server: S3Server) -> None:
    for day in DAYS:
        record_day(data, day, count=300, lost=(7,) if day == DAY else ())
    original = rows(data / f"{DAY}.db")
    done = tickctl_json("archive", "--to", place, data_root=data, **server.environment)
    assert [(row["trading_day"], row["action"], row["verified"]) for row in done] == [
        (day, "archived", True) for day in DAYS
    ]
    assert not (data / "_archive" / "manifests").exists()  # nothing of it stays here
    assert not list((data / "_archive").glob(".hk-tick-temp-*"))
    again = tickctl("archive", "--to", place, data_root=data, **server.environment)
    assert again.stdout == "nothing to do: every day that is over is archived\n"
    assert tickctl_json("archive", DAY, "--to", place, data_root=data, **server.environment)[0]["action"] == "unchanged"
    verified = tickctl_json("verify", "--from", place, data_root=data, **server.environment)
    assert [(row["trading_day"], row["fine"]) for row in verified] == [(day, True) for day in DAYS]
    assert all(row["compared_with"] for row in verified)

    gone = tickctl_json("retain", "--keep-days", 1, "--from", place, data_root=data, **server.environment)
    assert [(row["trading_day"], row["action"]) for row in gone] == [(day, "deleted") for day in DAYS[:2]]

    fresh = data.parent / "elsewhere"
    back = tickctl_json(
        "restore", DAY, "--from", place, "--into", fresh, data_root=data.parent / "none", **server.environment
    )
    assert (back["action"], back["rows"]) == ("restored", len(original))
    assert back["source"].startswith(place)
    assert rows(fresh / f"{DAY}.db") == original
    assert not list(fresh.glob(".hk-tick-temp-*"))


def test_a_changed_byte_in_the_bucket_is_found_and_no_day_file_goes(data: Path, place: str, server: S3Server) -> None:
    record_day(data, DAY, count=300)
    record_day(data, DAYS[1], count=30)
    assert tickctl("archive", "--to", place, data_root=data, **server.environment).returncode == 0
    client, key = server.client(), f"{place.removeprefix(f's3://{BUCKET}/')}/{parquet_path(Path(), DAY)}"
    held = bytearray(client.get_object(BUCKET, key).read())
    held[len(held) // 2] ^= 1
    client.put_object(BUCKET, key, io.BytesIO(held), len(held))
    (check,) = tickctl_json("verify", DAY, "--from", place, data_root=data, code=1, **server.environment)
    assert any(place in problem and "checksum" in problem for problem in check["problems"])
    (kept,) = tickctl_json("retain", "--keep-days", 1, "--from", place, data_root=data, code=1, **server.environment)
    assert kept["action"] == "refused"
    assert (data / f"{DAY}.db").exists()
    done = tickctl("restore", DAY, "--from", place, "--into", data.parent / "new", data_root=data, **server.environment)
    assert done.returncode == 1
    assert place in done.stderr


def test_a_copy_follows_its_day_and_never_loses_a_tick(data: Path, place: str, tmp_path: Path) -> None:
    ticks = day_ticks("HK.00700", 200, DAY)
    store = places.open_store(place)
    writer = DayFileWriter(data)
    writer.write(ticks[:100])
    assert copies.send_day(archived_at(tmp_path / "a", data), DAY, store, tmp_path).action == "archived"
    writer.write(ticks[100:])
    writer.close()
    assert copies.send_day(archived_at(tmp_path / "b", data), DAY, store, tmp_path).action == "replaced"
    other = tmp_path / "other"
    other.mkdir()
    with_less = DayFileWriter(other)
    with_less.write(ticks[50:150])
    with_less.close()
    with pytest.raises(pack.Refused, match=r"holds ticks that .* lacks"):
        copies.send_day(archived_at(tmp_path / "c", other), DAY, store, tmp_path)
    assert copies.check_copy(store, DAY, data / f"{DAY}.db").fine


def test_of_two_writers_of_one_name_one_is_refused(
    data: Path, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    record_day(data, DAY, count=100)
    writer = DayFileWriter(other)
    writer.write(day_ticks("HK.00700", 20, DAY, first=1000))
    writer.close()
    mine, theirs = archived_at(tmp_path / "a", data), archived_at(tmp_path / "b", other)
    store = places.open_store(place)
    real = copies._send_files

    def late(*arguments: Any) -> bool:
        monkeypatch.setattr(copies, "_send_files", real)
        copies.send_day(theirs, DAY, places.open_store(place), tmp_path / "their-work")  # meanwhile
        return real(*arguments)

    monkeypatch.setattr(copies, "_send_files", late)
    for name in ("work", "their-work"):
        (tmp_path / name).mkdir()
    with pytest.raises((stores.Taken, pack.Refused)):
        copies.send_day(mine, DAY, store, tmp_path / "work")
    assert copies.check_copy(store, DAY, other / f"{DAY}.db").fine
    # And with the very same name in hand.
    file = tmp_path / "file"
    file.write_bytes(b"mine")
    store.write(file, "name", hashlib.sha256(b"mine").hexdigest(), None)
    store.write(file, "name", hashlib.sha256(b"mine").hexdigest(), None)  # an answer that was lost
    file.write_bytes(b"theirs")
    with pytest.raises(stores.Taken, match="a prefix each"):
        store.write(file, "name", hashlib.sha256(b"theirs").hexdigest(), None)
    with pytest.raises(stores.Taken):
        store.write(file, "name", hashlib.sha256(b"theirs").hexdigest(), '"0123"')


def test_an_upload_goes_on_after_the_server_was_killed_in_the_middle(
    place: str, server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = bytes(itertools.islice(itertools.cycle(range(251)), 11 * MB + 5))
    file, sha256 = tmp_path / "file", hashlib.sha256(body).hexdigest()
    file.write_bytes(body)
    store = places.open_store(place)
    assert isinstance(store, s3.S3Store)
    sent: list[int] = []
    put = store._put

    def killing(name: str, body: bytes, headers: Any, **query: str) -> str:
        if len(sent) == 1:
            server.kill()
        sent.append(int(query["partNumber"]))
        return put(name, body, headers, **query)

    monkeypatch.setattr(store, "_put", killing)
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        store.write(file, "large", sha256, None)
    server.start()
    assert places.open_store(place).stat("large") is None  # not a part of it is to be seen
    sent.clear()
    again = places.open_store(place)
    assert isinstance(again, s3.S3Store)
    put = again._put

    def noting(name: str, body: bytes, headers: Any, **query: str) -> str:
        sent.append(int(query["partNumber"]))
        return put(name, body, headers, **query)

    monkeypatch.setattr(again, "_put", noting)
    again.write(file, "large", sha256, None)
    assert sent == [2, 3]  # the first was there
    target = tmp_path / "back"
    assert again.read("large", target, len(body)) is not None
    assert target.read_bytes() == body


def test_an_upload_that_somebody_began_with_another_checksum_is_made_anew(place: str, tmp_path: Path) -> None:
    store, path = places.open_store(place), tmp_path / "large"
    assert isinstance(store, s3.S3Store)
    path.write_bytes(b"x" * (s3.PART_BYTES + 1))
    begun = store._ask(
        "POST", "large", b"", {s3._META: "0" * 64, "x-amz-checksum-algorithm": "SHA256"}, {"uploads": ""}
    )
    upload = s3._text(begun, "UploadId")
    store._put("large", b"x" * s3.PART_BYTES, {}, partNumber="1", uploadId=upload)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    store.write(path, "large", sha256, None)
    there = store.stat("large")
    assert there is not None
    assert (there.size_bytes, there.sha256) == (path.stat().st_size, sha256)


def test_a_line_that_breaks_is_taken_up_where_it_broke(
    place: str, server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = bytes(itertools.islice(itertools.cycle(range(253)), 3 * MB))
    file = tmp_path / "file"
    file.write_bytes(body)
    places.open_store(place).write(file, "name", hashlib.sha256(body).hexdigest(), None)
    target = tmp_path / "back"
    with broken_line(server.port, most_bytes=MB) as port:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
        assert places.open_store(place).read("name", target, len(body)) is not None
    assert target.read_bytes() == body


@pytest.mark.parametrize("most_bytes", [600, 0])
def test_a_store_that_answers_by_half_is_given_up(
    place: str, server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_bytes: int
) -> None:
    (tmp_path / "file").write_bytes(b"x" * MB)
    places.open_store(place).write(tmp_path / "file", "name", "0" * 64, None)
    monkeypatch.setattr(s3_lines, "RETRIES", urllib3.Retry(0))
    with broken_line(server.port, most_bytes=most_bytes) as port:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
        with pytest.raises(StoreUnavailable, match=r"by half|broke off"):
            places.open_store(place).read("name", tmp_path / "back", MB)


def test_a_store_that_is_too_slow_is_given_up(
    place: str, server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"x" * MB)
    places.open_store(place).write(tmp_path / "file", "name", "0" * 64, None)
    monkeypatch.setattr(s3, "GRACE_SEC", 1.0)
    with broken_line(server.port, drop_sec=0.05) as port:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
        with pytest.raises(StoreUnavailable, match="too slowly"):
            places.open_store(place).read("name", tmp_path / "back", MB)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "not-the-secret"}, "refuses these credentials"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "refuses these credentials"),
        ({"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}, "cannot be reached"),
        ({"place": "s3://no-such-bucket/x"}, "there is no bucket no-such-bucket"),
        ({"place": f"s3://{KEY}:{SECRET}@bucket/x"}, "this is no bucket and prefix"),
    ],
)
def test_what_is_wrong_is_said_without_a_secret(
    data: Path, place: str, server: S3Server, wrong: dict[str, str], words: str
) -> None:
    record_day(data, DAY, count=5)
    given = {**server.environment, **wrong}
    done = tickctl("archive", "--to", given.pop("place", place), data_root=data, **given)
    assert done.returncode in (1, 2)
    text = done.stdout + done.stderr
    assert words in text
    assert not any(secret in text for secret in (SECRET, "not-the-secret", "Traceback"))


def test_credentials_that_others_may_read_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "credentials"
    file.write_text(f"[default]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY", raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        places.open_store("s3://bucket/x")
    file.chmod(0o600)
    places.open_store("s3://bucket/x")


@pytest.mark.parametrize("wrong", ["s3://", "s3://A/x", "gs://bucket/x", "s3://bucket/../x", "s3://bucket/a b"])
def test_a_place_that_is_none_is_no_place(wrong: str) -> None:
    with pytest.raises(InputError):
        places.open_store(wrong)


def test_a_manifest_that_lies_leads_nowhere(place: str, data: Path, tmp_path: Path) -> None:
    """Its place, its size, and an object larger than it says."""
    record_day(data, DAY, count=50)
    root = archived_at(tmp_path / "a", data)
    store = places.open_store(place)
    copies.send_day(root, DAY, store, tmp_path)
    text = manifest_path(root, DAY).read_text()
    size = parquet_path(root, DAY).stat().st_size
    for change in ((f'"size_bytes": {size}', '"size_bytes": 10'), ("ticks.parquet", "../../../../x.parquet")):
        manifest = tmp_path / "manifest"
        manifest.write_text(text.replace(*change))
        there = store.stat(f"manifests/{DAY}.json")
        assert there is not None
        store.write(manifest, f"manifests/{DAY}.json", "0" * 64, there.version)
        target = tmp_path / f"t{size}{len(change[0])}"
        target.mkdir()
        with pytest.raises(StoreCorrupt):
            copies.fetch_day(store, DAY, target)
        assert not copies.check_copy(store, DAY, None).fine
        assert not list(tmp_path.rglob("x.parquet"))


def test_a_signed_copy_says_who_made_it(data: Path, place: str, server: S3Server, tmp_path: Path) -> None:
    record_day(data, DAY, count=50)
    key = ssh_key(tmp_path / "key")
    signers = tmp_path / "signers"
    signers.write_text(f'desk@example namespaces="hk-tick-archive" {key.with_suffix(".pub").read_text()}')
    done = tickctl_json("archive", "--to", place, "--sign", key, data_root=data, **server.environment)
    assert [row["action"] for row in done] == ["archived"]
    (check,) = tickctl_json("verify", "--from", place, "--signers", signers, data_root=data, **server.environment)
    assert (check["fine"], check["signed_by"]) == (True, "desk@example")
    # A later version has to be signed, too.
    more = DayFileWriter(data)
    more.write(day_ticks("HK.09999", 5, DAY))
    more.close()
    (refused,) = tickctl_json("archive", "--to", place, data_root=data, code=1, **server.environment)
    assert "is signed" in refused["details"]
    (signed,) = tickctl_json("archive", "--to", place, "--sign", key, data_root=data, **server.environment)
    assert signed["action"] == "replaced"
    store = places.open_store(place)
    assert copies.check_copy(store, DAY, None, signers=copies.Signers.of(signers)).signed_by == "desk@example"


def test_signatures_of_the_archive_itself(data: Path, tmp_path: Path) -> None:
    for day in DAYS:
        record_day(data, day, count=20)
    key, other = ssh_key(tmp_path / "key"), ssh_key(tmp_path / "other")
    signers = tmp_path / "signers"
    signers.write_text(f"desk@example {key.with_suffix('.pub').read_text()}")
    assert tickctl("archive", DAYS[0], "--sign", key, data_root=data).returncode == 0
    assert tickctl("archive", DAYS[1], "--sign", other, data_root=data).returncode == 0
    assert tickctl("archive", DAYS[2], data_root=data).returncode == 0
    assert tickctl("verify", data_root=data).returncode == 0  # nobody asked
    verified = tickctl_json("verify", "--signers", signers, data_root=data, code=1)
    assert [row["signed_by"] for row in verified] == ["desk@example", None, None]
    assert ["unsigned" in str(row["problems"]) for row in verified] == [False, False, True]
    assert "who made it is unknown" in verified[1]["problems"][0]
    # A day that is archived already is signed when it is asked for.
    done = tickctl_json("archive", "--sign", key, data_root=data)
    assert [row["trading_day"] for row in done] == [DAYS[2]]
    # One changed word, and the signature is of nothing.
    path = manifest_path(data / "_archive", DAYS[0])
    path.write_text(path.read_text().replace('"made_at_ms": ', '"made_at_ms": 1'))
    verified = tickctl_json("verify", DAYS[0], "--signers", signers, data_root=data, code=1)
    assert "who made it is unknown" in verified[0]["problems"][0]
    # A new version takes the old signature away.
    more = DayFileWriter(data)
    more.write(day_ticks("HK.09999", 5, DAYS[2]))
    more.close()
    assert tickctl("archive", DAYS[2], data_root=data).returncode == 0
    assert not signature_path(data / "_archive", DAYS[2]).exists()
    key.chmod(0o644)
    for wrong, words in ((key, "chmod 600"), (tmp_path / "none", "No such file"), (signers, "cannot sign")):
        if wrong == signers:
            signers.chmod(0o600)
        done_ = tickctl("archive", DAYS[2], "--sign", wrong, data_root=data)
        assert words in done_.stderr + done_.stdout
        assert done_.returncode in (1, 2)


def test_research_tools_read_the_bucket_where_it_is(data: Path, place: str, server: S3Server) -> None:
    """As docs/object-storage.md says."""
    for day in DAYS[:2]:
        record_day(data, day, count=30)
    assert tickctl("archive", "--to", place, data_root=data, **server.environment).returncode == 0
    path = place.removeprefix("s3://")
    files = S3FileSystem(endpoint_override=server.url, access_key=KEY, secret_key=SECRET, region="us-east-1")
    ticks = pyarrow.dataset.dataset(f"{path}/ticks", filesystem=files, partitioning="hive")
    wanted = sum(len(rows(data / f"{day}.db")) for day in DAYS[:2])
    assert duckdb.sql("SELECT count(*) FROM ticks").fetchall() == [(wanted,)]
    assert ticks.to_table(columns=["symbol", "price"]).to_pandas().shape == (wanted, 2)
    lazy = polars.scan_parquet(f"{place}/ticks/*/*/*.parquet", hive_partitioning=True, storage_options={
        "aws_endpoint_url": server.url, "aws_access_key_id": KEY, "aws_secret_access_key": SECRET,
        "aws_region": "us-east-1", "aws_allow_http": "true"})  # fmt: skip
    assert lazy.select(polars.len()).collect().item() == wanted


def test_a_directory_takes_copies_as_a_bucket_does(data: Path, tmp_path: Path) -> None:
    record_day(data, DAY, count=50)
    there = tmp_path / "mounted"
    assert tickctl_json("archive", "--to", there, data_root=data)[0]["action"] == "archived"
    assert tickctl("archive", "--to", there, data_root=data).stdout.startswith("nothing to do")
    assert tickctl_json("verify", "--from", there, data_root=data)[0]["fine"]
    back = tickctl_json("restore", "last", "--from", there, "--into", tmp_path / "new", data_root=tmp_path / "none")
    assert back["rows"] == len(rows(data / f"{DAY}.db"))
    done = tickctl("archive", "--to", data / "_archive", data_root=data)
    assert (done.returncode, "is the archive itself" in done.stderr) == (2, True)


def ssh_key(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path
