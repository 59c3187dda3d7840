-- +goose Up

-- Kills of flags on their way into the flags repository, and those that landed there not long ago.
CREATE TABLE kills (
    flag   text COLLATE "C" PRIMARY KEY,
    id     text COLLATE "C" NOT NULL,
    landed bigint NOT NULL, -- Unix milliseconds; 0: not yet
    body   text NOT NULL
);

-- Events that were posted, each once.
CREATE TABLE posted (
    event text COLLATE "C" PRIMARY KEY,
    at    bigint NOT NULL -- Unix milliseconds
);
CREATE INDEX posted_by_time ON posted (at);

-- Messages to webhooks. id gives the order.
CREATE TABLE outbox (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event   text COLLATE "C" NOT NULL,
    webhook text COLLATE "C" NOT NULL,
    posted  bigint NOT NULL, -- Unix milliseconds
    next    bigint NOT NULL, -- Unix milliseconds; 0: it was sent, or given up
    body    text NOT NULL,
    UNIQUE (event, webhook)
);
CREATE INDEX outbox_by_next ON outbox (next, id);
CREATE INDEX outbox_by_time ON outbox (posted);

-- +goose Down
DROP TABLE outbox, posted, kills;
