-- +goose Up

-- Grows by one with every report that is kept (compare-and-swap). Rows from before begin at 0, as if there were none.
ALTER TABLE cells ADD COLUMN version INTEGER NOT NULL DEFAULT 0;

-- Who has a slot of maxInFlight in use.
CREATE TABLE slots (
    channel  TEXT NOT NULL,
    cell     TEXT NOT NULL,
    taken_at INTEGER NOT NULL, -- Unix milliseconds
    PRIMARY KEY (channel, cell)
) STRICT, WITHOUT ROWID;

-- Waves of rollouts that are through: these latch too.
CREATE TABLE waves (
    channel  TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    wave     INTEGER NOT NULL,
    body     TEXT NOT NULL,
    PRIMARY KEY (channel, sequence, wave)
) STRICT;

-- The newest change of each cell's identity, which git may not have yet.
CREATE TABLE registrations (
    cell   TEXT PRIMARY KEY,
    serial INTEGER NOT NULL,
    body   TEXT NOT NULL
) STRICT;

-- Who leads: one row. A lease that was given back has no holder.
CREATE TABLE lease (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    term    INTEGER NOT NULL,
    holder  TEXT NOT NULL,    -- random, of one open store
    watched INTEGER NOT NULL, -- 1: the holder locks a byte of the file beside, so that its death shows
    since   INTEGER NOT NULL, -- Unix milliseconds: when it was taken or renewed
    until   INTEGER NOT NULL  -- Unix milliseconds
) STRICT;

-- One-time tokens of cells, by the hash of their secrets.
CREATE TABLE joins (
    hash    TEXT PRIMARY KEY,
    cell    TEXT NOT NULL,
    serial  INTEGER NOT NULL, -- of the cell's identity when it was made
    made_by TEXT NOT NULL,
    created INTEGER NOT NULL, -- Unix milliseconds
    expires INTEGER NOT NULL, -- Unix milliseconds
    used_by TEXT              -- the public key that used it; null: none
) STRICT, WITHOUT ROWID;
CREATE INDEX joins_by_cell ON joins (cell, created);
CREATE INDEX joins_by_expiry ON joins (expires);

-- Bearer tokens of people and programs, by the hash of their secrets.
CREATE TABLE operators (
    name    TEXT PRIMARY KEY,
    role    TEXT NOT NULL,
    hash    TEXT NOT NULL UNIQUE,
    created INTEGER NOT NULL, -- Unix milliseconds
    expires INTEGER NOT NULL  -- Unix milliseconds; 0: never
) STRICT;

-- Who did what, from where; bounded. id gives the order.
CREATE TABLE audit (
    id   INTEGER PRIMARY KEY AUTOINCREMENT,
    body TEXT NOT NULL
) STRICT;

-- +goose Down
DROP TABLE audit;
DROP TABLE operators;
DROP TABLE joins;
DROP TABLE lease;
DROP TABLE registrations;
DROP TABLE waves;
DROP TABLE slots;
ALTER TABLE cells DROP COLUMN version;
