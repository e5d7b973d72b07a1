PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS subscription (
    id TEXT PRIMARY KEY,
    ledger TEXT NOT NULL,
    url TEXT NOT NULL,
    query TEXT NOT NULL,
    secret TEXT NOT NULL,
    made_by TEXT NOT NULL,
    made_at INTEGER NOT NULL,
    position INTEGER NOT NULL,
    failing_since INTEGER,
    not_before INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0,
    state TEXT NOT NULL DEFAULT 'live' CHECK (state IN ('live', 'disabled'))
);
CREATE TABLE IF NOT EXISTS delivery (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    subscription TEXT NOT NULL,
    entry INTEGER NOT NULL,
    at INTEGER NOT NULL,
    status INTEGER,
    problem TEXT
);
CREATE INDEX IF NOT EXISTS delivery_of ON delivery (subscription, number);
