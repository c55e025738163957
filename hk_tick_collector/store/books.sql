-- Of a file of order books alone, DATA_ROOT/book/YYYYMMDD.book.db.

-- For people: who came when. States are in payloads: hk-tickctl book reads them.
CREATE VIEW books AS
SELECT p.rowid AS push_no, s.symbol, p.recv_ts_us,
  p.recv_ts_us / 1000 - p.bid_lag_ms AS bid_ts_ms, p.recv_ts_us / 1000 - p.ask_lag_ms AS ask_ts_ms,
  p.kind, p.merged
FROM pushes p JOIN symbols s USING (symbol_id);
