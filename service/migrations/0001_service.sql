-- A task is its record (JSON); the other columns are what the queue and listings look it up by. Times are milliseconds since 1970.
CREATE TABLE tasks (
    rank INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    caller TEXT NOT NULL,
    idempotency_key TEXT,
    body_hash TEXT NOT NULL,
    state TEXT NOT NULL,
    priority INTEGER NOT NULL,
    profile TEXT,
    deadline INTEGER,
    not_before INTEGER,
    created_at INTEGER NOT NULL,
    ended_at INTEGER,
    record TEXT NOT NULL
);
CREATE UNIQUE INDEX tasks_by_key ON tasks (caller, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX tasks_by_turn ON tasks (state, priority DESC, rank);
CREATE INDEX tasks_by_caller ON tasks (caller, state);
CREATE INDEX tasks_by_end ON tasks (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE events (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    task TEXT NOT NULL,
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    UNIQUE (task, seq)
);

-- Webhooks to deliver; next_at is NULL where they were given up.
CREATE TABLE outbox (
    id TEXT PRIMARY KEY,
    task TEXT NOT NULL,
    url TEXT NOT NULL,
    body TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_at INTEGER,
    error TEXT
);
CREATE INDEX outbox_by_time ON outbox (next_at) WHERE next_at IS NOT NULL;
