-- +goose Up

-- The last word of each cell. body is the whole CellState; the other columns are for people who look inside.
CREATE TABLE cells (
    name        TEXT PRIMARY KEY,
    channel     TEXT NOT NULL,
    release     TEXT NOT NULL,
    state       TEXT NOT NULL,
    last_report INTEGER NOT NULL, -- Unix milliseconds, by receipt
    body        TEXT NOT NULL
) STRICT;

-- What cells told of their history; bounded for each cell. id gives the order of arrival.
CREATE TABLE events (
    id     INTEGER PRIMARY KEY,
    cell   TEXT NOT NULL,
    boot   TEXT NOT NULL,
    number INTEGER NOT NULL,
    body   TEXT NOT NULL,
    UNIQUE (cell, boot, number)
) STRICT;
CREATE INDEX events_by_cell ON events (cell, id);

-- The newest offer to each cell, never replaced by one of an older (epoch, sequence).
CREATE TABLE grants (
    cell       TEXT PRIMARY KEY,
    epoch      INTEGER NOT NULL,
    sequence   INTEGER NOT NULL,
    assignment TEXT NOT NULL,
    granted_at TEXT NOT NULL -- RFC 3339
) STRICT;

-- Answers to probes.
CREATE TABLE observations (
    channel     TEXT NOT NULL,
    gate        TEXT NOT NULL,
    subject     TEXT NOT NULL,
    policy      TEXT NOT NULL,
    observed_at INTEGER NOT NULL, -- Unix milliseconds
    valid_until INTEGER NOT NULL, -- Unix milliseconds; 0: without end
    body        TEXT NOT NULL,
    PRIMARY KEY (channel, gate, subject, policy)
) STRICT;

-- What latches: none of these rows ever changes.
CREATE TABLE acceptances (
    upstream   TEXT NOT NULL,
    downstream TEXT NOT NULL,
    digest     TEXT NOT NULL,
    body       TEXT NOT NULL,
    PRIMARY KEY (upstream, downstream, digest)
) STRICT;
CREATE TABLE finishes (
    channel  TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    body     TEXT NOT NULL,
    PRIMARY KEY (channel, sequence)
) STRICT;
CREATE TABLE rollouts (
    channel  TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    body     TEXT NOT NULL,
    PRIMARY KEY (channel, sequence)
) STRICT;

-- The highest sequence ever served or reported.
CREATE TABLE served (
    channel  TEXT PRIMARY KEY,
    sequence INTEGER NOT NULL
) STRICT;

-- The engine's decisions as found in git, once each. id is the cursor of whoever follows them.
CREATE TABLE decisions (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    commit_id TEXT NOT NULL UNIQUE,
    announced INTEGER NOT NULL DEFAULT 0,
    body      TEXT NOT NULL
) STRICT;
CREATE INDEX decisions_unannounced ON decisions (id) WHERE announced = 0;

-- Pushes that the git host refused.
CREATE TABLE refusals (
    channel TEXT PRIMARY KEY,
    body    TEXT NOT NULL
) STRICT;

-- Single values: since (when this database began to observe), seen (commit), diverged.
CREATE TABLE facts (
    name TEXT PRIMARY KEY,
    body TEXT NOT NULL
) STRICT;

-- +goose Down
DROP TABLE facts;
DROP TABLE refusals;
DROP TABLE decisions;
DROP TABLE served;
DROP TABLE rollouts;
DROP TABLE finishes;
DROP TABLE acceptances;
DROP TABLE observations;
DROP TABLE grants;
DROP TABLE events;
DROP TABLE cells;
