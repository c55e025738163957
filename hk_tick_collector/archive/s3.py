"""A bucket of an S3-compatible store.

Credentials, region and address come from where every program of AWS looks: ``AWS_ACCESS_KEY_ID`` and its brothers,
``~/.aws/credentials`` (refused when others may read it), ``AWS_PROFILE``, ``AWS_ENDPOINT_URL_S3``, the machine's role.

- A new name is put with ``If-None-Match: *``, a later version with ``If-Match``: of two writers one is refused. An
  answer that got lost is told from a refusal by what is there. A store may pass over conditions that it does not know:
  the first small file of a run is put twice more, under conditions that must be refused.
- Each request carries the SHA-256 of its body, and the store refuses what arrived otherwise. The SHA-256 of the whole
  is kept as metadata ``sha256``.
- What is larger than PART_BYTES goes up in parts. An upload that was broken off is gone on with: parts that the store
  has are not sent again. It costs storage until then; a lifecycle rule of the bucket ends what nobody goes on with.
- A line that breaks while an object comes down is taken up where it broke, of the same version. A store that is slower
  than SLOWEST_BYTES_PER_SEC is given up, and one that does not answer at all after FIRST_SEC (``archive.s3_lines``).

The client library signs, retries and finds credentials; conditions and unfinished uploads it has no public calls for,
so requests go through its ``_execute``. pyproject.toml holds it to one minor version for that.
"""

from __future__ import annotations

import base64
import configparser
import contextlib
import hashlib
import os
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

import urllib3
from minio import Minio
from minio.credentials.credentials import Credentials
from minio.credentials.providers import AWSConfigProvider, ChainedProvider, EnvAWSProvider, IamAwsProvider
from minio.datatypes import parse_list_objects
from minio.error import MinioException, S3Error, ServerError
from urllib3.exceptions import HTTPError

from hk_tick_collector.archive.s3_lines import SLOWEST_BYTES_PER_SEC, Lines, NoAnswer
from hk_tick_collector.archive.stores import Stored, Taken, check_room
from hk_tick_collector.core.errors import ConfigError, StoreUnavailable
from hk_tick_collector.core.limit import TimeLimit
from hk_tick_collector.core.text import cut, printable

PART_BYTES = 5 * 1024 * 1024  # the least that S3 takes, so that little is sent again; 10,000 are 50 GB
BLOCK_BYTES = 256 * 1024
READ_ATTEMPTS = 5  # in a row that brought less than a block
GRACE_SEC = 60.0
MAX_NAMES = 1_000_000
MAX_EMPTY_PAGES = 100  # of a listing
MAX_UPLOADS = 5  # unfinished ones of a name that are looked at

_META = "x-amz-meta-sha256"
_GONE = {"NoSuchKey", "NotFound"}
_RACED = {"PreconditionFailed", "ConditionalRequestConflict"}
_KEYS = {"AccessDenied", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"}
_NO_CONDITIONS = {"NotImplemented", "MethodNotAllowed"}


def open_bucket(bucket: str, prefix: str) -> S3Store:
    """A bucket as a store. ConfigError when the credentials may be read by others or the address is none."""
    _check_credentials_file()
    address = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    parts = urlsplit(address or "https://s3.amazonaws.com")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.path.strip("/"):
        raise ConfigError("AWS_ENDPOINT_URL_S3 is an address like https://s3.example.com, without path or user")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    try:
        client = Minio(
            parts.netloc,
            secure=parts.scheme == "https",
            region=region or ("us-east-1" if address else None),
            credentials=ChainedProvider(_providers()),
            http_client=Lines(),
        )
    except ValueError as exc:
        raise ConfigError("AWS_ENDPOINT_URL_S3 or AWS_REGION cannot be used: see the address of your store") from exc
    return S3Store(client, bucket, prefix)


def _providers() -> list[Any]:
    providers: list[Any] = [EnvAWSProvider(), AWSConfigProvider()]
    if os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() != "true":
        providers.append(_Role(http_client=Lines(2.0, 10.0, urllib3.Retry(1))))
    return providers


class _Role(IamAwsProvider):
    """Of a machine in a cloud. Where nobody answers to that, there are no credentials: it is no word about the bucket,
    which was not asked."""

    def retrieve(self) -> Credentials:
        try:
            return super().retrieve()
        except HTTPError as exc:
            raise ValueError("this machine has no role that could be asked for") from exc


def _check_credentials_file() -> None:
    if os.environ.get("AWS_ACCESS_KEY_ID"):
        return
    path = Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials").expanduser()
    with contextlib.suppress(OSError):
        if path.stat().st_mode & 0o077:
            raise ConfigError(f"{path} holds credentials and others may read it: chmod 600 {path}")


class S3Store:
    """A bucket, or what is under a prefix of it. See ``stores.ArchiveStore``."""

    def __init__(self, client: Minio, bucket: str, prefix: str) -> None:
        self._client, self._bucket, self._prefix = client, bucket, prefix
        self._keeps_conditions = False  # as far as was tried

    @property
    def place(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def names(self, prefix: str) -> list[str]:
        object_names: list[str] = []
        skipped = len(self._key(""))
        with self._errors(f"list {self.place}/{prefix}"):
            for listed in self._listed(prefix):
                object_names.append(str(listed.object_name)[skipped:])
                if len(object_names) > MAX_NAMES:
                    raise StoreUnavailable(f"{self.place} has more than {MAX_NAMES:,} files: name a prefix of its own")
        return sorted(object_names)

    def _listed(self, prefix: str) -> Iterator[Any]:
        """A page at a time, so that a store which says for ever that more is to come is given up."""
        token: str | None = None
        empty_pages = 0
        while True:
            asked: dict[str, str | list[str] | tuple[str]] = {
                "list-type": "2",
                "delimiter": "",
                "encoding-type": "url",
                "max-keys": "1000",
                "prefix": self._key(prefix),
            }
            if token:
                asked["continuation-token"] = token
            answer = self._client._execute("GET", self._bucket, query_params=asked)
            try:
                page, is_truncated, following, _ = parse_list_objects(answer)
            except ValueError as exc:
                raise StoreUnavailable(f"{self.place} answers with no list of files: it is not an S3 store") from exc
            yield from page
            if not is_truncated:
                return
            empty_pages += not page
            if empty_pages > MAX_EMPTY_PAGES or not following or following == token:
                raise StoreUnavailable(f"{self.place} lists its files without an end: it is not an S3 store")
            token = following

    def stat(self, name: str) -> Stored | None:
        with self._errors(f"look at {self.place}/{name}"):
            try:
                stored = self._client.stat_object(self._bucket, self._key(name))
            except S3Error as exc:
                if exc.code in _GONE:
                    return None
                raise
        return Stored(int(stored.size or 0), str(stored.etag), (stored.metadata or {}).get(_META))

    def read(self, name: str, target: Path, most_bytes: int) -> Stored | None:
        stored = self.stat(name)
        if stored is None:
            return None
        wanted = min(stored.size_bytes, most_bytes + 1)
        check_room(target, wanted, f"{self.place}/{name}")
        with target.open("wb") as file:
            self._read(name, stored.version, file, wanted)
        return stored

    def _read(self, name: str, version: str, file: BinaryIO, wanted: int) -> None:
        started, done, vain = time.monotonic(), 0, 0
        while done < wanted:
            before = done
            with contextlib.closing(self._blocks(name, version, done, wanted)) as blocks:
                for block in blocks:
                    file.write(block)
                    done += len(block)
                    self._check_pace(name, time.monotonic() - started, done)
            self._check_pace(name, time.monotonic() - started, done)
            vain = 0 if done - before >= BLOCK_BYTES else vain + 1
            if vain >= READ_ATTEMPTS and done < wanted:
                raise StoreUnavailable(
                    f"{self.place}/{name} breaks off again and again, now after {done:,} of {wanted:,} bytes: "
                    "the store answers by half; try again later"
                )

    def _blocks(self, name: str, version: str, start: int, end: int) -> Generator[bytes, None, None]:
        """The bytes from ``start`` on, until ``end`` or until the line breaks."""
        most_sec = GRACE_SEC + (end - start) / SLOWEST_BYTES_PER_SEC  # also of what is no block, and of an error's text
        with self._errors(f"read {self.place}/{name}"), TimeLimit(most_sec):
            asked: Any = {"If-Match": f'"{version}"', "Range": f"bytes={start}-{end - 1}"}
            answer = self._client.get_object(self._bucket, self._key(name), request_headers=asked)
            try:
                if start and answer.status != 206:
                    raise StoreUnavailable(f"{self.place}/{name} broke off, and the store cannot go on in the middle")
                with contextlib.suppress(HTTPError, OSError):
                    # What came so far, not a full block: else a drop a second would never be noticed.
                    while start < end and (block := answer.read1(min(BLOCK_BYTES, end - start))):
                        start += len(block)
                        yield block
            finally:
                answer.close()

    def _check_pace(self, name: str, elapsed_sec: float, done_bytes: int) -> None:
        if elapsed_sec > GRACE_SEC + done_bytes / SLOWEST_BYTES_PER_SEC:
            raise StoreUnavailable(
                f"{self.place}/{name} comes too slowly: {done_bytes:,} bytes in {elapsed_sec:.0f} s; try again later"
            )

    def write(self, source: Path, name: str, sha256: str, replaces: str | None) -> None:
        size_bytes = source.stat().st_size
        condition = {"If-None-Match": "*"} if replaces is None else {"If-Match": f'"{replaces}"'}
        with self._errors(f"write {self.place}/{name}"):
            try:
                if size_bytes <= PART_BYTES:
                    body = source.read_bytes()
                    self._put(name, body, {**condition, _META: sha256})
                    self._try_conditions(name, body, sha256)
                else:
                    self._put_in_parts(source, name, sha256, condition)
            except S3Error as exc:
                if exc.code not in _RACED:
                    raise
                there = self.stat(name)
                if there is None or (there.size_bytes, there.sha256) != (size_bytes, sha256):
                    raise Taken(
                        f"{self.place}/{name} was written by another program meanwhile: archive the day again; two "
                        "recorders need a prefix each"
                    ) from exc  # else it is ours, and the answer was lost, or the same of somebody else

    def _try_conditions(self, name: str, body: bytes, sha256: str) -> None:
        """StoreUnavailable when the store puts the very bytes that are there once more, against a condition."""
        for condition in () if self._keeps_conditions else ({"If-None-Match": "*"}, {"If-Match": f'"{"0" * 32}"'}):
            try:
                self._put(name, body, {**condition, _META: sha256})
            except S3Error as exc:
                if exc.code not in _RACED | _KEYS:  # what could be put a moment ago may not be replaced at all
                    raise
            else:
                raise StoreUnavailable(
                    f"{self.place}/{name} is there, but the store passes over {next(iter(condition))}: it would let "
                    "two writers destroy each other; archive to a store with conditional writes, or to a directory"
                )
        self._keeps_conditions = True

    def _put(self, name: str, body: bytes, headers: dict[str, str], **query: str) -> str:
        """Its tag."""
        headers = {**headers, "x-amz-checksum-sha256": _sum(body)}
        return str(self._ask("PUT", name, body, headers, query).headers.get("etag", "")).strip('"')

    def _put_in_parts(self, source: Path, name: str, sha256: str, condition: dict[str, str]) -> None:
        wanted = (source.stat().st_size, sha256)
        upload, there = self._begun(source, name)
        tag = self._complete(source, name, sha256, condition, upload, there)
        stored = self.stat(name)  # an error may come late, as an answer that begins well
        is_ours = stored is not None and stored.version == tag
        if upload is not None and is_ours and stored is not None and (stored.size_bytes, stored.sha256) != wanted:
            # What was gone on with had been begun by somebody who said something else of the whole.
            self._complete(source, name, sha256, {"If-Match": f'"{tag}"'}, None, {})
            stored = self.stat(name)
        if stored is None or (stored.size_bytes, stored.sha256) != wanted:
            raise StoreUnavailable(f"{self.place}/{name} was sent and is not there: try again")

    def _complete(
        self,
        source: Path,
        name: str,
        sha256: str,
        condition: dict[str, str],
        upload: str | None,
        there: dict[int, str],
    ) -> str | None:
        """Send the parts that are not there, and make one object of them: its tag, None when the answer has none."""
        if upload is None:
            headers = {_META: sha256, "x-amz-checksum-algorithm": "SHA256"}
            upload = _text(self._ask("POST", name, b"", headers, {"uploads": ""}), "UploadId")
        listed = ET.Element("CompleteMultipartUpload")
        for number, body in _parts(source):
            tag = there.get(number) or self._put(name, body, {}, partNumber=str(number), uploadId=upload)
            part = ET.SubElement(listed, "Part")
            for key, value in {"ChecksumSHA256": _sum(body), "ETag": f'"{tag}"', "PartNumber": str(number)}.items():
                ET.SubElement(part, key).text = value
        answer = self._ask("POST", name, ET.tostring(listed), condition, {"uploadId": upload})
        with contextlib.suppress(StoreUnavailable):
            return _text(answer, "ETag").strip('"')
        return None

    def _begun(self, source: Path, name: str) -> tuple[str | None, dict[int, str]]:
        """The newest upload of this very file that was broken off, and the tags of the parts that the store has."""
        with contextlib.suppress(MinioException, ET.ParseError, ValueError):  # not every store lists them for everybody
            key = self._key(name)
            answer = self._client._list_multipart_uploads(self._bucket, prefix=key)
            uploads = [upload for upload in answer.uploads if upload.object_name == key and upload.upload_id]
            for upload in sorted(uploads, key=lambda upload: str(upload.initiated_time), reverse=True)[:MAX_UPLOADS]:
                held = self._held_parts(key, str(upload.upload_id))
                mine = {n: held[n][1] for n, body in _parts(source) if n in held and _is_part(held[n], body)}
                if mine and mine.keys() == held.keys():
                    return str(upload.upload_id), mine
        return None, {}

    def _held_parts(self, key: str, upload: str) -> dict[int, tuple[int, str]]:
        """Size and tag of each part."""
        parts: dict[int, tuple[int, str]] = {}
        after: str | None = None
        while True:
            answer = self._client._list_parts(self._bucket, key, upload, part_number_marker=after)
            parts |= {int(part.part_number): (int(part.size or 0), str(part.etag)) for part in answer.parts}
            following = str(answer.next_part_number_marker or "")
            if not answer.is_truncated or following == after:
                return parts
            after = following

    def _ask(self, method: str, name: str, body: bytes, headers: dict[str, Any], query: dict[str, Any]) -> Any:
        return self._client._execute(
            method, self._bucket, self._key(name), body=body, headers=headers, query_params=query
        )

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix else name

    @contextlib.contextmanager
    def _errors(self, task: str) -> Iterator[None]:
        """Errors of the library as ours: no text of the store, which may repeat a key, comes through."""
        try:
            yield
        except S3Error as exc:
            raise StoreUnavailable(f"cannot {task}: {self._sentence(exc.code or 'nothing')}") from exc
        except ServerError as exc:
            code = "PreconditionFailed" if exc.status_code == 412 else f"HTTP {exc.status_code}"
            raise StoreUnavailable(f"cannot {task}: {self._sentence(code)}") from exc
        except NoAnswer as exc:
            raise StoreUnavailable(f"cannot {task}: the store {exc}: see AWS_ENDPOINT_URL_S3 and the line") from exc
        except (MinioException, HTTPError, ET.ParseError) as exc:
            raise StoreUnavailable(
                f"cannot {task}: the store cannot be reached, broke off or is no S3 store ({type(exc).__name__}): see "
                "AWS_ENDPOINT_URL_S3 and the line"
            ) from exc
        except configparser.Error:  # its text, and the chain of a traceback, would repeat the line with the secret
            raise StoreUnavailable(
                f"cannot {task}: ~/.aws/credentials cannot be read as AWS's programs write it: see its lines; "
                "a % is written %%"
            ) from None
        except ValueError as exc:  # of the providers
            raise StoreUnavailable(
                f"cannot {task}: no credentials for S3; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or fill "
                "~/.aws/credentials"
            ) from exc

    def _sentence(self, code: str) -> str:
        shown = printable(cut(code, 40))
        if code == "NoSuchBucket":
            return f"there is no bucket {self._bucket}: make it first, or see AWS_ENDPOINT_URL_S3"
        if code in _KEYS:
            return f"the store refuses these credentials or lets them do nothing here ({shown}): see AWS_* and ~/.aws"
        if code in _RACED:
            return f"it was replaced meanwhile ({shown}): try again"
        if code in _NO_CONDITIONS:
            return f"the store knows no conditional writes ({shown}), without which two writers destroy each other"
        return f"the store says {shown}; try again later"


def _parts(source: Path) -> Iterator[tuple[int, bytes]]:
    with source.open("rb") as file:
        number = 1
        while body := file.read(PART_BYTES):
            yield number, body
            number += 1


def _is_part(held: tuple[int, str], body: bytes) -> bool:
    """By its tag, which is the MD5 of a part where the store does not encrypt it with keys of its own."""
    return held == (len(body), hashlib.md5(body, usedforsecurity=False).hexdigest())


def _sum(body: bytes) -> str:
    return base64.b64encode(hashlib.sha256(body).digest()).decode()


def _text(answer: Any, name: str) -> str:
    """What stands in an element of an answer. StoreUnavailable without it."""
    for element in ET.fromstring(answer.data).iter():  # noqa: S314 - expat bounds what entities grow to
        if element.tag.rpartition("}")[2] == name and element.text:
            return element.text
    raise StoreUnavailable(f"the store's answer lacks {name}: it is not an S3 store")
