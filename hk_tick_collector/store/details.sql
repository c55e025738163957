-- What was told of a day's symbols, and what was said later of its ticks. Since version 2. Every statement may run again.

-- What a symbol was on that day: names, lots and tick sizes change. NULL: the source did not say.
CREATE TABLE IF NOT EXISTS symbols (
  symbol TEXT NOT NULL PRIMARY KEY,
  name TEXT,
  lot_size INTEGER,                 -- units in a board lot
  unit TEXT,                        -- what volume counts: shares, contracts, ...
  multiplier REAL,                  -- turnover = price x volume x multiplier
  currency TEXT,                    -- ISO 4217, of price and turnover
  tick_size REAL,                   -- the smallest step of the price
  noted_at_ms INTEGER NOT NULL      -- when the source said so, UTC epoch milliseconds
) WITHOUT ROWID;

-- Trades that were corrected or cancelled later. A stored tick is never rewritten: who wants the corrected day joins
-- this table, by symbol and, where it has one, sequence.
CREATE TABLE IF NOT EXISTS amendments (
  symbol TEXT NOT NULL,
  kind TEXT NOT NULL,               -- correction | cancel
  tick_ts_ms INTEGER,               -- the amended tick's time and sequence, as far as the source says them
  tick_seq INTEGER,
  price REAL,                       -- what is right instead; NULL for a cancel
  volume INTEGER,
  ts_ms INTEGER,                    -- when it was amended: UTC, epoch milliseconds
  recv_ts_ms INTEGER NOT NULL,      -- when the recorder read it
  source_text TEXT                  -- the source's words
);

