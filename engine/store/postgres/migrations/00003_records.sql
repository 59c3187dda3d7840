-- +goose Up

-- What needs no table of its own: small JSON documents. version is another with every write (compare-and-swap).
CREATE TABLE records (
    kind    text COLLATE "C" NOT NULL,
    key     text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    updated bigint NOT NULL, -- Unix milliseconds
    body    text NOT NULL,
    PRIMARY KEY (kind, key)
);

-- +goose Down
DROP TABLE records;
