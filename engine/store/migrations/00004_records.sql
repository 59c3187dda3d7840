-- +goose Up

-- What needs no table of its own: small JSON documents. version is another with every write (compare-and-swap).
CREATE TABLE records (
    kind    TEXT NOT NULL,
    key     TEXT NOT NULL,
    version INTEGER NOT NULL,
    updated INTEGER NOT NULL, -- Unix milliseconds
    body    TEXT NOT NULL,
    PRIMARY KEY (kind, key)
) STRICT;

-- The same rows as before, in the words that PostgreSQL's index has: a query finds the index by them.
DROP INDEX decisions_unannounced;
CREATE INDEX decisions_unannounced ON decisions (id) WHERE NOT announced;

-- +goose Down
DROP INDEX decisions_unannounced;
CREATE INDEX decisions_unannounced ON decisions (id) WHERE announced = 0;
DROP TABLE records;
