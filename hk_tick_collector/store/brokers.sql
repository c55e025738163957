-- Of a file of broker queues alone, DATA_ROOT/book/YYYYMMDD.broker.db: kinds F, S and B, and no times but ours.

-- What brokers are called, as the source said it first.
CREATE TABLE brokers (
  broker_id INTEGER PRIMARY KEY,
  name TEXT NOT NULL
);

-- For people: who came when. Queues are in payloads: hk-tickctl book reads them.
CREATE VIEW broker_queues AS
SELECT p.rowid AS push_no, s.symbol, p.recv_ts_us, p.kind, p.merged
FROM pushes p JOIN symbols s USING (symbol_id);
