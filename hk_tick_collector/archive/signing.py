"""Manifests signed with an SSH key, so that a copy proves who made it.

By ``ssh-keygen -Y``, which desks have: no key of our own, no format of our own. A signature is of the manifest's bytes,
in the namespace NAMESPACE, so that it means nothing elsewhere; the manifest has the checksums of all files. It stands
beside the manifest (``days.manifest.signature_path``) and can be checked without this program::

    ssh-keygen -Y verify -f SIGNERS -I desk@example -n hk-tick-archive -s 20261120.json.sig < 20261120.json

Who may sign stands in an ``allowed_signers`` file (ssh-keygen(1)). A signature says who made the copy, never that the
day is complete.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from hk_tick_collector.archive import atomic
from hk_tick_collector.archive.verify import Check
from hk_tick_collector.core.errors import ConfigError, RecorderError, StoreUnavailable
from hk_tick_collector.core.text import cut, printable
from hk_tick_collector.days.manifest import manifest_path, signature_path
from hk_tick_collector.store.atomic import sync_file

NAMESPACE = "hk-tick-archive"
TIMEOUT_SEC = 60  # an agent may ask its user
MAX_SIGNATURE_BYTES = 65_536


def sign(manifest: Path, key: Path) -> None:
    """Put the signature of a manifest beside it. ``key``: the private key's file, or a public key whose private one an
    agent holds. ConfigError when it cannot sign."""
    day = manifest.name.partition(".")[0]
    target = signature_path(manifest.parent.parent, day)
    with manifest.open("rb") as text:
        done = _ssh_keygen("sign", "-f", str(key), "-n", NAMESPACE, stdin=text)
    if done.returncode or not done.stdout.startswith(b"-----BEGIN SSH SIGNATURE-----"):
        raise ConfigError(f"{key} cannot sign: {_stderr_line(done.stderr)}")
    part = atomic.new_part(target)
    part.write_bytes(done.stdout)
    sync_file(part)
    atomic.rename(part, target)


def is_signature(archive_root: Path, day: str) -> bool:
    """Is what stands beside a day's manifest a signature of its bytes, whoever made it? StoreUnavailable without
    ssh-keygen."""
    signature = signature_path(archive_root, day)
    if not signature.is_file():
        return False
    with manifest_path(archive_root, day).open("rb") as text:
        return not _ssh_keygen("check-novalidate", "-n", NAMESPACE, "-s", str(signature), stdin=text).returncode


def check_key(key: Path) -> None:
    """ConfigError before a day is read, for a key that is none or that others may read."""
    try:
        mode = key.stat().st_mode
    except OSError as exc:
        raise ConfigError(f"{key}: {exc.strerror or exc}: name the file of an SSH key with --sign") from exc
    if mode & 0o077 and key.suffix != ".pub":
        raise ConfigError(f"{key} holds a secret key and others may read it: chmod 600 {key}")


@dataclass(frozen=True, slots=True)
class Signers:
    """Who may have made an archive. ``path``: a file of allowed signers."""

    path: Path

    @classmethod
    def of(cls, path: Path) -> Signers:
        """ConfigError when there is no such file."""
        if not path.is_file():
            raise ConfigError(f"{path} is not a file: name a file of allowed signers (ssh-keygen(1), ALLOWED SIGNERS)")
        return cls(path)

    def judged(self, archive_root: Path, check: Check) -> Check:
        """The check with who signed the day's manifest, or with one problem more."""
        try:
            return replace(check, signed_by=self.signer_of(archive_root, check.trading_day))
        except RecorderError as exc:
            return replace(check, problems=(*check.problems, str(exc)))

    def signer_of(self, archive_root: Path, day: str) -> str:
        """Who signed a day's manifest. RecorderError when nobody did, or nobody who may."""
        manifest, signature = manifest_path(archive_root, day), signature_path(archive_root, day)
        try:
            if signature.stat().st_size > MAX_SIGNATURE_BYTES:
                raise RecorderError(f"{signature} is not a signature: it is larger than any")
        except FileNotFoundError:
            raise RecorderError(f"{manifest} is unsigned: nobody says who made this copy") from None
        principals = _ssh_keygen("find-principals", "-f", str(self.path), "-s", str(signature))
        for name in principals.stdout.decode(errors="replace").splitlines() if not principals.returncode else ():
            options = ("-f", str(self.path), "-n", NAMESPACE, "-I", name, "-s", str(signature))
            with manifest.open("rb") as text:
                done = _ssh_keygen("verify", *options, stdin=text)
            if not done.returncode:
                return printable(cut(name))
        raise RecorderError(f"{signature} is not of this manifest, or of nobody in {self.path}: who made it is unknown")


def _ssh_keygen(
    action: str, *words: str, stdin: BinaryIO | int = subprocess.DEVNULL
) -> subprocess.CompletedProcess[bytes]:
    program = shutil.which("ssh-keygen")
    if program is None:
        raise StoreUnavailable("ssh-keygen is missing: install OpenSSH's client (Debian: openssh-client)")
    try:
        return subprocess.run(  # noqa: S603 - no shell, and words of ours and of the command line
            [program, "-Y", action, *words],
            stdin=stdin, capture_output=True, timeout=TIMEOUT_SEC, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as exc:
        raise StoreUnavailable(f"ssh-keygen did not answer within {TIMEOUT_SEC} s") from exc


def _stderr_line(text: bytes) -> str:
    return printable(cut(" ".join(text.decode(errors="replace").split()))) or "ssh-keygen says nothing"
