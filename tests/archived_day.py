"""A day put away as Parquet with its manifest, made straight from the day file."""

from __future__ import annotations

from pathlib import Path

from hk_tick_collector.days import content, manifest, parquet
from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.days.schema import SCHEMA_VERSION
from tests.ticks import DAY


def archive_day(data_root: Path, archive_root: Path, day: str = DAY, *, remove: bool = True) -> Path:
    """Archive a recorded day and, unless told otherwise, remove its day file; the Parquet file."""
    source = Catalog(data_root, archive_root).day(day)
    path = manifest.parquet_path(archive_root, day)
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_sorted(path, source.sorted_tables())
    held = content.content_of(parquet.read_batches(path))
    claim = manifest.Manifest(
        manifest.FORMAT_VERSION, day, "HK", 0, "test", SCHEMA_VERSION, 1, held.rows, content.ALGORITHM,
        held.content_hash, manifest.claims_of(held),
        (manifest.ArchivedFile("parquet", str(path.relative_to(archive_root)), path.stat().st_size, ""),),
        tuple(source.coverage()), tuple(source.gaps()),
    )  # fmt: skip
    target = manifest.manifest_path(archive_root, day)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(claim.to_json())
    if remove:
        for file in data_root.glob(f"{day}.db*"):
            file.unlink()
    return path
