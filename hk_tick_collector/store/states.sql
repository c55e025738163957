-- What files of order books and of broker queues share: a row a push, and what was watched. Times are UTC. No row is
-- ever changed but the open ones of sessions and watches.

CREATE TABLE symbols (
  symbol_id INTEGER PRIMARY KEY,
  symbol TEXT NOT NULL UNIQUE
);

-- A row a push, in the order in which they came; records/book_codec.py and records/broker_codec.py have the payload.
CREATE TABLE pushes (
  symbol_id INTEGER NOT NULL,
  recv_ts_us INTEGER NOT NULL,  -- when the recorder read it, epoch microseconds
  bid_lag_ms INTEGER,           -- the receive time in milliseconds less the bid side's time at the source's server
  ask_lag_ms INTEGER,           -- likewise; NULL when the source does not say
  kind TEXT NOT NULL,           -- F full, D changes, S the same again, B break: not known from here on
  merged INTEGER NOT NULL,      -- pushes before this one that were passed over because the disk was behind
  payload BLOB
);
-- Where a reader begins for one symbol at one time; every hundredth row is in it.
CREATE INDEX full_books ON pushes (symbol_id, recv_ts_us) WHERE kind = 'F';
-- Is a book still known? Breaks are rare. Files of earlier versions are read without it.
CREATE INDEX breaks ON pushes (symbol_id) WHERE kind = 'B';

-- A run of the recorder in this file. received = stored + merged + unread, at every commit.
CREATE TABLE sessions (
  session_id INTEGER PRIMARY KEY,
  began_ms INTEGER NOT NULL,
  alive_ms INTEGER NOT NULL,    -- the last commit: a process that died was at work until then
  ended INTEGER NOT NULL DEFAULT 0,
  received INTEGER NOT NULL DEFAULT 0,
  stored INTEGER NOT NULL DEFAULT 0,
  merged INTEGER NOT NULL DEFAULT 0,
  unread INTEGER NOT NULL DEFAULT 0,
  commits INTEGER NOT NULL DEFAULT 0
);

-- When pushes of a symbol would have reached us. until_ms NULL: until its session's alive_ms.
CREATE TABLE watches (
  watch_id INTEGER PRIMARY KEY,
  session_id INTEGER NOT NULL,
  symbol_id INTEGER NOT NULL,
  from_ms INTEGER NOT NULL,
  until_ms INTEGER,
  reason TEXT                   -- why it ended
);

-- Books that were asked for and held against the newest push.
CREATE TABLE pulls (
  symbol_id INTEGER NOT NULL,
  at_ms INTEGER NOT NULL,
  agrees INTEGER NOT NULL
);
