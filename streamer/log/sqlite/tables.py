"""The tables of the SQLite log's file."""

RECORD_BYTES = 24  # the size of a record besides its key and value

TABLES = f"""
CREATE TABLE topics (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,
  compact INTEGER NOT NULL, retention_ms INTEGER
);
CREATE TABLE lanes (        -- one for each partition of each topic
  id INTEGER PRIMARY KEY, topic INTEGER NOT NULL, number INTEGER NOT NULL,
  next INTEGER NOT NULL,    -- the offset that the next record will have
  bytes INTEGER NOT NULL,   -- of the records that are kept
  UNIQUE (topic, number)
);
CREATE TABLE records (
  place INTEGER PRIMARY KEY, key BLOB, value BLOB, headers BLOB,
  time_ms INTEGER,          -- null: the time of publishing
  published_ms INTEGER NOT NULL,
  bytes INTEGER AS ({RECORD_BYTES} + ifnull(length(key), 0) + ifnull(length(value), 0))
);
CREATE TABLE newest (       -- of each key of a compacted topic: where its last record lies
  lane INTEGER NOT NULL, key BLOB NOT NULL, place INTEGER NOT NULL,
  PRIMARY KEY (lane, key)
) WITHOUT ROWID;
CREATE TABLE doomed (       -- of compacted topics: records that were superseded, and tombstones
  due_ms INTEGER NOT NULL, place INTEGER NOT NULL,
  PRIMARY KEY (due_ms, place)
) WITHOUT ROWID;
CREATE TABLE groups (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,
  epochs INTEGER NOT NULL,  -- given out so far
  changes INTEGER NOT NULL  -- of members and of who holds what
);
CREATE TABLE members (
  team INTEGER NOT NULL, instance TEXT NOT NULL,
  epoch INTEGER NOT NULL, lease_ends_ms INTEGER NOT NULL,
  PRIMARY KEY (team, instance)
) WITHOUT ROWID;
CREATE TABLE holdings (
  team INTEGER NOT NULL, lane INTEGER NOT NULL, instance TEXT NOT NULL,
  PRIMARY KEY (team, lane)
) WITHOUT ROWID;
CREATE TABLE offsets (
  team INTEGER NOT NULL, lane INTEGER NOT NULL, next INTEGER NOT NULL,
  PRIMARY KEY (team, lane)
) WITHOUT ROWID;
"""
