"""Files that are kept beside a day (``store.kept``), put away with it.

They are copied under names that say their content, before the manifest that lists them counts: until then nobody looks
at them, and afterwards they are never changed. What no manifest lists any more goes when the new one stands. Restoring
a day leaves them in the archive: they can be read there, and nothing here takes them apart. Only from a copy elsewhere
they come back, so that a recorder that is gone has all of its day.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from hk_tick_collector.archive.atomic import Refused
from hk_tick_collector.core.errors import StoreError, StoreUnavailable
from hk_tick_collector.days.manifest import Manifest, kept_dir
from hk_tick_collector.store.atomic import make_own_dir
from hk_tick_collector.store.book_file import STATE_KINDS
from hk_tick_collector.store.kept import (
    KeptFile,
    check_room,
    copy_packed,
    kept_files,
    list_entry,
    list_file,
    problems_of,
)
from hk_tick_collector.store.layout import depth_dir, make_dir


def put_away(data_root: Path, archive_root: Path, day: str, before: Manifest | None) -> tuple[KeptFile, ...]:
    """Copy what the data root keeps beside the day, and read the copies. All that the manifest will list: also what an
    earlier one does. ``Refused`` for a file that is neither here nor there as it was kept."""
    listed = {entry.name: entry for entry in before.depth} if before is not None else {}
    source, target = depth_dir(data_root, day), kept_dir(archive_root, day)
    for entry in kept_files(data_root, day):
        if listed.get(entry.name) != entry or problems_of(target, entry):
            problems = problems_of(source, entry)
            if problems:
                raise Refused(f"{'; '.join(problems)}: import the file again, or remove its entry in {source}")
            make_own_dir(target)
            copy_packed(source / entry.packed_name, target / entry.packed_name)
            problems = problems_of(target, entry)
            if problems:
                raise Refused(f"{'; '.join(problems)}: check the disk")
        listed[entry.name] = entry
    return tuple(listed[name] for name in sorted(listed))


def fits(manifest: Manifest, data_root: Path) -> bool:
    """Does the manifest list all that is kept beside the day? By the lists alone."""
    return set(kept_files(data_root, manifest.trading_day)) <= set(manifest.depth)


def differences(archive_root: Path, manifest: Manifest, data_root: Path | None) -> list[str]:
    """Read every file that the manifest lists: where one is not what it says, or the data root keeps another one."""
    target = kept_dir(archive_root, manifest.trading_day)
    problems = [problem for entry in manifest.depth for problem in problems_of(target, entry)]
    try:
        there = kept_files(data_root, manifest.trading_day) if data_root is not None else []
    except StoreError as exc:
        return [*problems, str(exc)]
    listed = set(manifest.depth)
    return problems + [
        f"{entry.name} is kept beside the day and not in its archive as it is: bring the archive up to date with: "
        f"hk-tickctl archive {manifest.trading_day}"
        for entry in there
        if entry not in listed
    ]


def forget_unlisted(archive_root: Path, manifest: Manifest) -> None:
    """Remove what no manifest lists any more: copies of an earlier content, or of a run that died."""
    target = kept_dir(archive_root, manifest.trading_day)
    _remove_others(target, {entry.packed_name for entry in manifest.depth})


def leave_to_archive(data_root: Path, manifest: Manifest) -> None:
    """The archive was read and holds them: the packed files beside the day go, their list stays. So a live source knows
    that it need not keep them again."""
    directory = depth_dir(data_root, manifest.trading_day)
    listed = set(manifest.depth)
    for entry in kept_files(data_root, manifest.trading_day):
        if entry in listed:
            with contextlib.suppress(OSError):
                (directory / entry.packed_name).unlink(missing_ok=True)


def bring_back(archive_root: Path, manifest: Manifest, data_root: Path) -> None:
    """Copy what was kept beside the day, all but books and queues (``archive.books``), and list it, where nothing
    else is listed under that name. StoreUnavailable names those that could not be; the other ones are there then."""
    day, problems = manifest.trading_day, []
    of_books = {kind.file_of(data_root, day).name for kind in STATE_KINDS}
    for entry in manifest.depth:
        if entry.name not in of_books:
            try:
                _bring_file(kept_dir(archive_root, day), entry, data_root, day)
            except (StoreError, OSError) as exc:
                problems.append(str(exc))
    if problems:
        raise StoreUnavailable(f"the ticks of {day} are there, not all that was kept beside it: {'; '.join(problems)}")


def _bring_file(source: Path, entry: KeptFile, data_root: Path, day: str) -> None:
    directory, there = depth_dir(data_root, day), list_entry(data_root, day, entry.name)
    target = directory / entry.packed_name
    if there not in (None, entry) or (there is not None and target.exists()):
        return
    problems = problems_of(source, entry)
    if problems:
        raise StoreUnavailable("; ".join(problems))
    make_dir(directory)
    check_room(directory, entry.packed_bytes)
    copy_packed(source / entry.packed_name, target)
    list_file(directory, entry)


def _remove_others(directory: Path, names: Iterable[str]) -> None:
    with contextlib.suppress(OSError):
        for path in directory.iterdir():
            if path.name not in names:
                path.unlink(missing_ok=True)
