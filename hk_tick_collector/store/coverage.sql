-- What a day file says about its own completeness (coverage.py, gaps.py). Every statement may run again: the tables are
-- made anew, and filled from ticks, when somebody removed them.

-- One row for each symbol that is wanted or stored, written in the transaction of its ticks. A counter is
-- seq & 0xFFFFFFFF.
CREATE TABLE IF NOT EXISTS coverage (
  symbol TEXT NOT NULL PRIMARY KEY,
  first_counter INTEGER,            -- lowest and highest counter stored; NULL: no tick with a sequence
  last_counter INTEGER,
  stored_ticks INTEGER NOT NULL,    -- rows of the symbol in ticks
  missing_ticks INTEGER NOT NULL,   -- known to be missing; 0 unless state is missing
  holes TEXT,                       -- counters between first and last not stored: '501-502 900-910'; NULL: none
  head_proven INTEGER NOT NULL,     -- 1: OpenD showed that no tick of the day comes before first_counter
  verified_counter INTEGER,         -- OpenD's newest tick when push and pull last agreed (-1: it had none), and when
  verified_until_ms INTEGER,
  first_ts_ms INTEGER,              -- earliest and latest event time stored
  last_ts_ms INTEGER,
  state TEXT NOT NULL,              -- proven | missing | unproven
  reason TEXT,                      -- why it is not proven
  updated_at_ms INTEGER NOT NULL,
  unsequenced_ticks INTEGER NOT NULL,  -- of stored_ticks: rows without a sequence
  head_counter INTEGER,             -- the day's first counter as OpenD showed it
  distrust TEXT,                    -- why this symbol's counters prove nothing today; stays for the day
  interrupted_seq INTEGER,          -- newest sequence before an interruption that is still open; NULL: none is
  later_interruptions TEXT          -- the same of later ones that are open: '8123 9456'; NULL: not known, or none is open
) WITHOUT ROWID;

-- Ticks that OpenD can no longer show, and times in which it did not send those of a wanted symbol (meta_json says
-- not_subscribed). A gap that is filled later is closed, never deleted.
CREATE TABLE IF NOT EXISTS gaps (
  trading_day TEXT NOT NULL,
  symbol TEXT NOT NULL,
  gap_start_ts_ms INTEGER NOT NULL,  -- event time of the stored ticks around it, or when it was not subscribed
  gap_end_ts_ms INTEGER NOT NULL,
  gap_sec REAL NOT NULL,
  detected_at_ms INTEGER NOT NULL,
  reason TEXT NOT NULL,
  meta_json TEXT,
  missing_ticks INTEGER,             -- still missing; NULL: not known
  state TEXT NOT NULL DEFAULT 'open',  -- open | closed
  PRIMARY KEY (symbol, gap_start_ts_ms, gap_end_ts_ms)
);

-- When a whole copy of a symbol's day was held against the rows of ticks. With as many ticks as are stored, and last_at_ms
-- behind first_at_ms, each was in both, and the copy has not changed in between. It says that they are equal to the
-- copy, not to what the exchange told.
CREATE TABLE IF NOT EXISTS replays (
  symbol TEXT NOT NULL PRIMARY KEY,
  copy TEXT NOT NULL,                -- which one: a file's name
  ticks INTEGER NOT NULL,            -- of the day, in the copy; -1: it could not be held against the rows
  digest TEXT NOT NULL,              -- SHA-256 of the day's part of the copy
  first_at_ms INTEGER NOT NULL,      -- when it was first read with this digest
  last_at_ms INTEGER NOT NULL        -- when it was last read and equal; first_at_ms again when rows were changed since
) WITHOUT ROWID;

-- When the file was read from end to end and found sound, and how many rows it had.
CREATE TABLE IF NOT EXISTS readings (
  read_at_ms INTEGER NOT NULL PRIMARY KEY,
  rows INTEGER NOT NULL
);
