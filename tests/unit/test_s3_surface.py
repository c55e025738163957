"""minio's internals that ``archive/s3.py`` leans on: an upgrade that moves one of them fails here, by name."""

from __future__ import annotations

import inspect
import re
import traceback
from pathlib import Path

import pytest
from minio import Minio, datatypes

from hk_tick_collector.archive import s3
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
