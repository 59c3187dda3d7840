-- +goose Up

-- The audit is a chain: each row holds the hash of the row before. number 0: from before there was a chain.
ALTER TABLE audit ADD COLUMN number INTEGER NOT NULL DEFAULT 0;
ALTER TABLE audit ADD COLUMN hash TEXT NOT NULL DEFAULT '';
CREATE INDEX audit_by_number ON audit (number);

-- The newest row, and the last row that was deleted for its age: one row.
CREATE TABLE audit_head (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    number     INTEGER NOT NULL,
    hash       TEXT NOT NULL,
    cut_number INTEGER NOT NULL,
    cut_hash   TEXT NOT NULL
) STRICT;
INSERT INTO audit_head (id, number, hash, cut_number, cut_hash) VALUES (1, 0, '', 0, '');

-- +goose Down
DROP TABLE audit_head;
DROP INDEX audit_by_number;
ALTER TABLE audit DROP COLUMN hash;
ALTER TABLE audit DROP COLUMN number;
