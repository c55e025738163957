-- The ticks of a day file, version 1 (coverage.sql has its other tables). Every statement here runs once, inside one transaction, when a file is made;
-- a file of another version is brought here by the steps in connect.py.
-- The first 14 columns are the interface that users' SQL relies on, in this order. After them comes what research
-- needs and OpenD sends anyway.

CREATE TABLE ticks (
  market TEXT NOT NULL,
  symbol TEXT NOT NULL,
  ts_ms INTEGER NOT NULL,
  price REAL,
  volume INTEGER,
  turnover REAL,
  direction TEXT,
  seq INTEGER,
  tick_type TEXT,
  push_type TEXT,
  provider TEXT,
  trading_day TEXT NOT NULL,
  recv_ts_ms INTEGER NOT NULL,
  inserted_at_ms INTEGER NOT NULL,
  push_data_type TEXT,
  opend_recv_ts_ms INTEGER,
  type_sign TEXT,
  occurrence INTEGER NOT NULL DEFAULT 0
);

-- The identity of a tick that carries a sequence. Also serves the newest sequence of a symbol in O(log rows).
CREATE UNIQUE INDEX uniq_ticks_symbol_seq ON ticks (symbol, seq) WHERE seq IS NOT NULL;

-- The identity of a tick without one: its content, and which of equal ones it is (rows.py has the whole rule).
-- NULLs are distinct to SQLite here; rows.py looks such rows up itself.
CREATE UNIQUE INDEX uniq_ticks_symbol_ts_price_vol_turnover
  ON ticks (symbol, ts_ms, price, volume, turnover, occurrence) WHERE seq IS NULL;

PRAGMA application_id = 1212896331;
PRAGMA user_version = 1;
