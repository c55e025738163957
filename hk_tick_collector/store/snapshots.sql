-- A file of snapshots, DATA_ROOT/snapshot/YYYYMMDD.snapshot.db. Times are UTC. No row is ever changed.

CREATE TABLE series (
  series_id INTEGER PRIMARY KEY,
  symbol TEXT NOT NULL,
  package TEXT NOT NULL,
  category TEXT NOT NULL,
  UNIQUE (symbol, package, category)
);

-- A row a snapshot, in the order in which they were stored. Of one second there may be several that differ.
CREATE TABLE snapshots (
  series_id INTEGER NOT NULL,
  ts_sec INTEGER NOT NULL,      -- the source's second, epoch
  recv_ts_ms INTEGER NOT NULL,  -- when the recorder read it
  origin TEXT NOT NULL,         -- live, or copy: the source's file of the whole day
  spot REAL,
  zero_gamma REAL,
  digest BLOB NOT NULL,         -- of what it says; a repeat adds nothing
  body BLOB NOT NULL            -- the JSON object as it came, zlib
);
CREATE UNIQUE INDEX one_picture ON snapshots (series_id, ts_sec, digest);

-- The source's own copy of a series' day, read to its end: which seconds it holds.
CREATE TABLE copies (
  series_id INTEGER NOT NULL,
  fetched_ms INTEGER NOT NULL,
  records INTEGER NOT NULL,
  unread INTEGER NOT NULL,      -- of these: could be no snapshot
  first_sec INTEGER NOT NULL,   -- of the first bit in seconds
  seconds BLOB NOT NULL,        -- zlib; bit n of byte n / 8, lowest first: the copy holds first_sec + n
  sha256 TEXT NOT NULL          -- of the file as it came
);

-- For people. Bodies are compressed: hk-tickctl snapshots reads them.
CREATE VIEW readable AS
SELECT n.rowid AS snapshot_no, s.symbol, s.package, s.category, datetime(n.ts_sec, 'unixepoch') AS utc, n.ts_sec,
  n.recv_ts_ms, n.origin, n.spot, n.zero_gamma
FROM snapshots n JOIN series s USING (series_id);
