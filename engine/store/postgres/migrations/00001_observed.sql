-- +goose Up

-- Keys are compared by their bytes: a database's own order may change with its operating system.

-- The last word of each cell. body is the whole CellState, version grows by one with every report that is kept
-- (compare-and-swap); the other columns are for people who look inside. Rows are replaced often: room is left in a page.
CREATE TABLE cells (
    name        text COLLATE "C" PRIMARY KEY,
    version     bigint NOT NULL,
    channel     text NOT NULL,
    release     text NOT NULL,
    state       text NOT NULL,
    last_report bigint NOT NULL, -- Unix milliseconds, by receipt
    body        text NOT NULL
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);

-- What cells told of their history; bounded for each cell. id gives the order of arrival.
CREATE TABLE events (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    cell   text COLLATE "C" NOT NULL,
    boot   text COLLATE "C" NOT NULL,
    number bigint NOT NULL,
    body   text NOT NULL,
    UNIQUE (cell, boot, number)
);
CREATE INDEX events_by_cell ON events (cell, id);

-- The newest offer to each cell, never replaced by one of an older (epoch, sequence).
CREATE TABLE grants (
    cell       text COLLATE "C" PRIMARY KEY,
    epoch      bigint NOT NULL,
    sequence   bigint NOT NULL,
    assignment text NOT NULL,
    granted_at text NOT NULL -- RFC 3339
);

-- Who has a slot of maxInFlight in use.
CREATE TABLE slots (
    channel  text COLLATE "C" NOT NULL,
    cell     text COLLATE "C" NOT NULL,
    taken_at bigint NOT NULL, -- Unix milliseconds
    PRIMARY KEY (channel, cell)
);

-- Answers to probes.
CREATE TABLE observations (
    channel     text COLLATE "C" NOT NULL,
    gate        text COLLATE "C" NOT NULL,
    subject     text COLLATE "C" NOT NULL,
    policy      text COLLATE "C" NOT NULL,
    observed_at bigint NOT NULL, -- Unix milliseconds
    valid_until bigint NOT NULL, -- Unix milliseconds; 0: without end
    body        text NOT NULL,
    PRIMARY KEY (channel, gate, subject, policy)
);

-- What latches: none of these rows ever changes.
CREATE TABLE acceptances (
    upstream   text COLLATE "C" NOT NULL,
    downstream text COLLATE "C" NOT NULL,
    digest     text COLLATE "C" NOT NULL,
    body       text NOT NULL,
    PRIMARY KEY (upstream, downstream, digest)
);
CREATE TABLE finishes (
    channel  text COLLATE "C" NOT NULL,
    sequence bigint NOT NULL,
    body     text NOT NULL,
    PRIMARY KEY (channel, sequence)
);
CREATE TABLE rollouts (
    channel  text COLLATE "C" NOT NULL,
    sequence bigint NOT NULL,
    body     text NOT NULL,
    PRIMARY KEY (channel, sequence)
);
CREATE TABLE waves (
    channel  text COLLATE "C" NOT NULL,
    sequence bigint NOT NULL,
    wave     integer NOT NULL,
    body     text NOT NULL,
    PRIMARY KEY (channel, sequence, wave)
);

-- The highest sequence ever served or reported.
CREATE TABLE served (
    channel  text COLLATE "C" PRIMARY KEY,
    sequence bigint NOT NULL
);

-- The engine's decisions as found in git, once each. id is the cursor of whoever follows them: it is given under the
-- lease's lock, so that a lower one is never committed after a higher one was read.
CREATE TABLE decisions (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    commit_id text COLLATE "C" NOT NULL UNIQUE,
    announced boolean NOT NULL DEFAULT false,
    body      text NOT NULL
);
CREATE INDEX decisions_unannounced ON decisions (id) WHERE NOT announced;

-- Pushes that the git host refused.
CREATE TABLE refusals (
    channel text COLLATE "C" PRIMARY KEY,
    body    text NOT NULL
);

-- Single values: since (when this database began to observe), seen (commit), diverged.
CREATE TABLE facts (
    name text COLLATE "C" PRIMARY KEY,
    body text NOT NULL
);

-- Who leads: one row, by this database's clock. A lease that was given back has no holder. Every write of a leader
-- holds this row's lock until it is committed.
CREATE TABLE lease (
    id     integer PRIMARY KEY CHECK (id = 1),
    term   bigint NOT NULL,
    holder text NOT NULL,        -- random, of one open store
    since  timestamptz NOT NULL, -- when it was taken or renewed
    until  timestamptz NOT NULL
);
INSERT INTO lease (id, term, holder, since, until) VALUES (1, 0, '', now(), now());

-- The newest change of each cell's identity, which git may not have yet.
CREATE TABLE registrations (
    cell   text COLLATE "C" PRIMARY KEY,
    serial bigint NOT NULL,
    body   text NOT NULL
);

-- One-time tokens of cells, by the hash of their secrets.
CREATE TABLE joins (
    hash    text COLLATE "C" PRIMARY KEY,
    cell    text COLLATE "C" NOT NULL,
    serial  bigint NOT NULL, -- of the cell's identity when it was made
    made_by text NOT NULL,
    created bigint NOT NULL, -- Unix milliseconds
    expires bigint NOT NULL, -- Unix milliseconds
    used_by text             -- the public key that used it; null: none
);
CREATE INDEX joins_by_cell ON joins (cell, created);
CREATE INDEX joins_by_expiry ON joins (expires);

-- Bearer tokens of people and programs, by the hash of their secrets.
CREATE TABLE operators (
    name    text COLLATE "C" PRIMARY KEY,
    role    text NOT NULL,
    hash    text COLLATE "C" NOT NULL UNIQUE,
    created bigint NOT NULL, -- Unix milliseconds
    expires bigint NOT NULL  -- Unix milliseconds; 0: never
);

-- Who did what, from where; bounded. id gives the order.
CREATE TABLE audit (
    id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    body text NOT NULL
);

-- +goose Down
DROP TABLE audit, operators, joins, registrations, lease, facts, refusals, decisions, served, waves, rollouts, finishes,
    acceptances, observations, slots, grants, events, cells;
