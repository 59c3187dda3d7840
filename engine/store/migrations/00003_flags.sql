-- +goose Up

-- Kills of flags on their way into the flags repository, and those that landed there not long ago.
CREATE TABLE kills (
    flag   TEXT PRIMARY KEY,
    id     TEXT NOT NULL,
    landed INTEGER NOT NULL, -- Unix milliseconds; 0: not yet
    body   TEXT NOT NULL
) STRICT;

-- Events that were posted, each once.
CREATE TABLE posted (
    event TEXT PRIMARY KEY,
    at    INTEGER NOT NULL -- Unix milliseconds
) STRICT, WITHOUT ROWID;
CREATE INDEX posted_by_time ON posted (at);

-- Messages to webhooks. id gives the order.
CREATE TABLE outbox (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    event   TEXT NOT NULL,
    webhook TEXT NOT NULL,
    posted  INTEGER NOT NULL, -- Unix milliseconds
    next    INTEGER NOT NULL, -- Unix milliseconds; 0: it was sent, or given up
    body    TEXT NOT NULL,
    UNIQUE (event, webhook)
) STRICT;
CREATE INDEX outbox_by_next ON outbox (next, id);
CREATE INDEX outbox_by_time ON outbox (posted);

-- +goose Down
DROP TABLE outbox;
DROP TABLE posted;
DROP TABLE kills;
