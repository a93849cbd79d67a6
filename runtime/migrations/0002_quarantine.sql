CREATE TABLE quarantined_hosts (
    host TEXT PRIMARY KEY,
    reason TEXT NOT NULL,
    since TEXT NOT NULL
);
