-- The indexes of ``ticks`` in a new day file; its columns stand in records/columns.py, its other tables in coverage.sql and
-- details.sql. Every statement runs once, inside one transaction, when a file is made; a file of an earlier version is
-- brought here by the steps in connect.py.

-- The identity of a tick that carries a sequence. Also serves the newest sequence of a symbol in O(log rows).
CREATE UNIQUE INDEX uniq_ticks_symbol_seq ON ticks (symbol, seq) WHERE seq IS NOT NULL;

-- The identity of a tick without one: its content, and which of equal ones it is (rows.py has the whole rule).
-- NULLs are distinct to SQLite here; rows.py looks such rows up itself.
CREATE UNIQUE INDEX uniq_ticks_symbol_ts_price_vol_turnover
  ON ticks (symbol, ts_ms, price, volume, turnover, occurrence) WHERE seq IS NULL;

