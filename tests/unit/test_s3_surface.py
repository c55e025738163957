"""minio's internals that ``archive/s3.py`` leans on: an upgrade that moves one of them fails here, by name."""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import urllib3
from minio import Minio, datatypes
from minio.error import S3Error

from hk_tick_collector.archive import s3, s3_lines
from hk_tick_collector.core.errors import StoreUnavailable


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("_execute", ("method", "bucket_name", "object_name", "body", "headers", "query_params")),
        ("_list_multipart_uploads", ("bucket_name", "prefix")),
        ("_list_parts", ("bucket_name", "object_name", "upload_id", "part_number_marker")),
        ("get_object", ("request_headers",)),
    ],
)
def test_the_client_has(name: str, arguments: tuple[str, ...]) -> None:
    assert set(arguments) <= inspect.signature(getattr(Minio, name)).parameters.keys()


def test_its_answers_have() -> None:
    source = inspect.getsource(datatypes)
    for name in ("uploads", "parts", "is_truncated", "next_part_number_marker", "upload_id", "initiated_time"):
        assert re.search(rf"^    (def )?{name}\b", source, re.MULTILINE), name


@pytest.mark.parametrize("text", ["[default]\naws_secret_access_key = hush%hush\n", "aws_secret_access_key = hush\n"])
def test_credentials_that_cannot_be_parsed_are_said_without_their_lines(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "credentials"
    path.write_text(text.replace("]\n", "]\naws_access_key_id = someone\n"))
    path.chmod(0o600)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_SECRET_ACCESS_KEY", "MINIO_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    with pytest.raises(StoreUnavailable, match="cannot be read as AWS's programs write it") as caught:
        s3.open_bucket("ticks", "").stat("a")
    assert "hush" not in "".join(traceback.format_exception(caught.value))


class Listing:
    """A store that answers each request for names with the next page; the last for ever."""

    def __init__(self, *pages: str) -> None:
        self.pages, self.asked = list(pages), 0

    def _execute(self, *_: object, **__: object) -> urllib3.HTTPResponse:
        assert self.asked < 1000, "asked for ever"
        page = self.pages[min(self.asked, len(self.pages) - 1)]
        self.asked += 1
        text = f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>ticks</Name>{page}</ListBucketResult>'
        return urllib3.HTTPResponse(body=text.replace("TOKEN", f"t{self.asked}").encode(), preload_content=True)

    def list_objects(self, *_: object, **__: object) -> Iterator[object]:
        return Minio._list_objects(self, "ticks")  # type: ignore[arg-type]

    _base_url = SimpleNamespace(is_aws_host=False)


MORE = "<IsTruncated>true</IsTruncated><NextContinuationToken>TOKEN</NextContinuationToken>"


def named(name: str) -> str:
    return f"<Contents><Key>{name}</Key><Size>1</Size></Contents>"


def test_a_listing_is_read_page_by_page() -> None:
    store = s3.S3Store(Listing(named("hk/a") + MORE, MORE, named("hk/b")), "ticks", "hk")  # type: ignore[arg-type]
    assert store.names("") == ["a", "b"]


@pytest.mark.parametrize("page", [MORE, MORE.replace("TOKEN", "same")])
def test_a_listing_without_an_end_is_given_up(page: str) -> None:
    with pytest.raises(StoreUnavailable, match="without an end"):
        s3.S3Store(Listing(page), "ticks", "hk").names("")  # type: ignore[arg-type]


class Careless:
    """A store that heeds these conditions of a write and passes over the others."""

    def __init__(self, *heeded: str) -> None:
        self.heeded, self.held, self.puts = heeded, set[str](), 0

    def _execute(self, method: str, bucket: str, name: str, *, headers: dict[str, str], **_: object) -> object:
        self.puts += 1
        is_met = {"If-None-Match": name not in self.held, "If-Match": headers.get("If-Match") == '"tag"'}
        if not all(is_met[condition] for condition in self.heeded if condition in headers):
            answer = urllib3.HTTPResponse(status=412)
            raise S3Error(answer, "PreconditionFailed", None, None, None, None, bucket, name)  # type: ignore[arg-type]
        self.held.add(name)
        return urllib3.HTTPResponse(headers={"etag": '"tag"'})


@pytest.mark.parametrize(
    ("heeded", "passed_over"),
    [((), "If-None-Match"), (("If-Match",), "If-None-Match"), (("If-None-Match",), "If-Match")],
)
def test_a_store_that_passes_over_conditions_is_refused(
    heeded: tuple[str, ...], passed_over: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"x")
    store = s3.S3Store(Careless(*heeded), "ticks", "hk")  # type: ignore[arg-type]
    with pytest.raises(StoreUnavailable, match=f"ticks/hk/name is there, but the store passes over {passed_over}:"):
        store.write(tmp_path / "file", "name", "0" * 64, None)


def test_conditions_are_tried_once_a_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    client = Careless("If-None-Match", "If-Match")
    store = s3.S3Store(client, "ticks", "hk")  # type: ignore[arg-type]
    for name in ("a", "b"):
        store.write(tmp_path / "file", name, "0" * 64, None)
    assert (client.puts, client.held) == (4, {"hk/a", "hk/b"})


def test_a_store_says_neither_where_to_go_nor_how_long_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("urllib3.util.retry.time.sleep", slept.append)
    s3_lines.RETRIES.sleep(urllib3.HTTPResponse(status=503, headers={"Retry-After": "31536000"}))
    assert not slept
    away = urllib3.HTTPResponse(status=307, headers={"Location": "http://elsewhere.example"})
    with pytest.raises(urllib3.exceptions.MaxRetryError):
        s3_lines.RETRIES.increment("GET", "/", response=away)
