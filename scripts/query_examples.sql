-- Questions to a day file, ready to copy. All of them at once, on any day:
--
--   sqlite3 -header -column "file:/data/sqlite/HK/20261120.db?mode=ro" < scripts/query_examples.sql
--
-- ts_ms, recv_ts_ms and inserted_at_ms are UTC epoch milliseconds; Hong Kong is 8 hours ahead all year.

-- How fresh is the file?
SELECT ROUND(strftime('%s', 'now') - MAX(ts_ms) / 1000.0, 3) AS lag_sec, COUNT(*) AS rows FROM ticks;

-- The newest time, in UTC and in Hong Kong.
SELECT datetime(MAX(ts_ms) / 1000, 'unixepoch') AS newest_utc,
       datetime(MAX(ts_ms) / 1000, 'unixepoch', '+8 hours') AS newest_hk
FROM ticks;

-- Rows and newest sequence of each symbol.
SELECT symbol, COUNT(*) AS rows, MAX(seq) AS max_seq FROM ticks GROUP BY symbol ORDER BY rows DESC, symbol LIMIT 20;

-- The newest trades of one symbol.
SELECT datetime(ts_ms / 1000, 'unixepoch', '+8 hours') AS hk_time, ts_ms % 1000 AS ms, price, volume, turnover,
       direction, tick_type
FROM ticks WHERE symbol = 'HK.00700' AND seq IS NOT NULL ORDER BY seq DESC LIMIT 20;

-- One-minute bars of one symbol. Odd lots and off-exchange prints carry odd prices and are left out.
WITH trades AS (
  SELECT ts_ms / 60000 AS minute, ts_ms, COALESCE(seq, 0) AS seq, price, volume, turnover
  FROM ticks WHERE symbol = 'HK.00700' AND tick_type IN ('AUTO_MATCH', 'AUCTION')
)
SELECT DISTINCT
       datetime(minute * 60, 'unixepoch', '+8 hours') AS hk_minute,
       FIRST_VALUE(price) OVER (PARTITION BY minute ORDER BY ts_ms, seq) AS open,
       MAX(price) OVER (PARTITION BY minute) AS high,
       MIN(price) OVER (PARTITION BY minute) AS low,
       FIRST_VALUE(price) OVER (PARTITION BY minute ORDER BY ts_ms DESC, seq DESC) AS close,
       SUM(volume) OVER (PARTITION BY minute) AS volume,
       SUM(turnover) OVER (PARTITION BY minute) AS turnover
FROM trades ORDER BY minute DESC LIMIT 20;

-- Volume-weighted average price of each symbol.
SELECT symbol, ROUND(SUM(turnover) / NULLIF(SUM(volume), 0), 4) AS vwap, SUM(volume) AS volume
FROM ticks WHERE tick_type IN ('AUTO_MATCH', 'AUCTION') GROUP BY symbol ORDER BY SUM(turnover) DESC LIMIT 20;

-- Kinds of trades.
SELECT tick_type, type_sign, direction, COUNT(*) AS rows FROM ticks GROUP BY tick_type, type_sign, direction
ORDER BY rows DESC;

-- Rows a minute: where did it go quiet?
SELECT datetime(ts_ms / 60000 * 60, 'unixepoch', '+8 hours') AS hk_minute, COUNT(*) AS rows
FROM ticks GROUP BY ts_ms / 60000 ORDER BY hk_minute DESC LIMIT 20;

-- From the trade to OpenD, and from the trade to the file, for ticks pushed as they happened.
SELECT COUNT(*) AS rows,
       ROUND(AVG(opend_recv_ts_ms - ts_ms)) AS mean_to_opend_ms,
       ROUND(AVG(recv_ts_ms - ts_ms)) AS mean_to_recorder_ms,
       MAX(recv_ts_ms - ts_ms) AS max_to_recorder_ms,
       ROUND(AVG(inserted_at_ms - recv_ts_ms)) AS mean_to_file_ms
FROM ticks WHERE push_data_type = 'REALTIME';

-- How the ticks came: pushed, polled, or fetched after a break.
SELECT push_type, push_data_type, COUNT(*) AS rows FROM ticks GROUP BY push_type, push_data_type ORDER BY rows DESC;

-- Times in the future (more than two hours): there should be none.
SELECT COUNT(*) AS future_rows FROM ticks WHERE ts_ms > (strftime('%s', 'now') + 7200) * 1000;

-- Ticks stored twice: there should be none.
SELECT symbol, seq, COUNT(*) AS copies FROM ticks WHERE seq IS NOT NULL GROUP BY symbol, seq HAVING COUNT(*) > 1;

-- Is the day complete? proven, missing or unproven, and why.
SELECT symbol, state, stored_ticks, missing_ticks, holes, reason FROM coverage
ORDER BY state = 'proven', missing_ticks DESC, symbol LIMIT 20;

-- Ticks that OpenD could not show again.
SELECT symbol, datetime(gap_start_ts_ms / 1000, 'unixepoch', '+8 hours') AS hk_start, gap_sec, missing_ticks, reason
FROM gaps WHERE state = 'open' ORDER BY gap_start_ts_ms;

-- Sound?
PRAGMA quick_check;
