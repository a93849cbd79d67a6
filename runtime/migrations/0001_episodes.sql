CREATE TABLE episodes (
    id TEXT PRIMARY KEY,
    goal TEXT NOT NULL,
    task TEXT NOT NULL,
    policy TEXT NOT NULL,
    generation TEXT NOT NULL,
    started_at TEXT NOT NULL,
    ended_at TEXT,
    stop_kind TEXT,
    stop_reason TEXT,
    answer TEXT,
    last_observation TEXT,
    success INTEGER
);
CREATE INDEX episodes_by_start ON episodes (started_at);

CREATE TABLE plans (
    episode_id TEXT NOT NULL REFERENCES episodes (id) ON DELETE CASCADE,
    version INTEGER NOT NULL,
    cursor INTEGER NOT NULL,
    PRIMARY KEY (episode_id, version)
);

CREATE TABLE milestones (
    episode_id TEXT NOT NULL REFERENCES episodes (id) ON DELETE CASCADE,
    version INTEGER NOT NULL,
    position INTEGER NOT NULL,
    step_text TEXT NOT NULL,
    step_status TEXT NOT NULL,
    executed_at INTEGER,
    text TEXT NOT NULL,
    check_text TEXT,
    verdict TEXT NOT NULL,
    decided_by TEXT,
    reached_at INTEGER,
    PRIMARY KEY (episode_id, version, position)
);

CREATE TABLE steps (
    episode_id TEXT NOT NULL REFERENCES episodes (id) ON DELETE CASCADE,
    turn INTEGER NOT NULL,
    action TEXT NOT NULL,
    ok INTEGER NOT NULL,
    error TEXT,
    step TEXT NOT NULL,
    screenshot TEXT,
    PRIMARY KEY (episode_id, turn)
);

CREATE TABLE grammars (
    hash TEXT PRIMARY KEY,
    text TEXT NOT NULL
);

-- turn is NULL for calls outside a step (first plan, summarizer).
CREATE TABLE calls (
    id INTEGER PRIMARY KEY,
    episode_id TEXT NOT NULL REFERENCES episodes (id) ON DELETE CASCADE,
    turn INTEGER,
    in_step INTEGER NOT NULL,
    role TEXT NOT NULL,
    prompt_ids BLOB NOT NULL,
    completion_ids BLOB NOT NULL,
    spans TEXT NOT NULL,
    grammar TEXT REFERENCES grammars (hash),
    logprobs BLOB NOT NULL,
    free_logprobs BLOB NOT NULL,
    temperature REAL NOT NULL,
    seed INTEGER NOT NULL,
    generation TEXT NOT NULL,
    latency_ms REAL NOT NULL
);
CREATE INDEX calls_by_episode ON calls (episode_id, turn);
