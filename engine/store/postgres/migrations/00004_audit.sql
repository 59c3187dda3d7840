-- +goose Up

-- The audit is a chain: each row holds the hash of the row before. number 0: from before there was a chain.
ALTER TABLE audit ADD COLUMN number bigint NOT NULL DEFAULT 0, ADD COLUMN hash text NOT NULL DEFAULT '';
CREATE INDEX audit_by_number ON audit (number);

-- The newest row, and the last row that was deleted for its age: one row.
CREATE TABLE audit_head (
    id         bigint PRIMARY KEY CHECK (id = 1),
    number     bigint NOT NULL,
    hash       text NOT NULL,
    cut_number bigint NOT NULL,
    cut_hash   text NOT NULL
);
INSERT INTO audit_head (id, number, hash, cut_number, cut_hash) VALUES (1, 0, '', 0, '');

-- +goose Down
DROP TABLE audit_head;
DROP INDEX audit_by_number;
ALTER TABLE audit DROP COLUMN hash, DROP COLUMN number;
