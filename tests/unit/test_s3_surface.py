"""minio's internals that ``archive/s3.py`` leans on: an upgrade that moves one of them fails here, by name."""

from __future__ import annotations

import inspect
import re

import pytest
from minio import Minio, datatypes


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
