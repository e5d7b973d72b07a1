PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA secure_delete = ON;
CREATE TABLE IF NOT EXISTS state_version (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    ledger TEXT NOT NULL,
    state TEXT NOT NULL,
    version TEXT NOT NULL,
    digest TEXT NOT NULL,
    size INTEGER NOT NULL,
    actor TEXT NOT NULL,
    taken_at INTEGER NOT NULL,
    key_id TEXT NOT NULL,
    sealed BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS state_version_of ON state_version (ledger, state, id);
CREATE TABLE IF NOT EXISTS state_lock (
    ledger TEXT NOT NULL,
    state TEXT NOT NULL,
    id TEXT NOT NULL,
    members TEXT NOT NULL,
    actor TEXT NOT NULL,
    taken_at INTEGER NOT NULL,
    versions INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (ledger, state)
);
CREATE TABLE IF NOT EXISTS fact (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    ledger TEXT NOT NULL,
    actor TEXT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS fact_of ON fact (ledger, id);
CREATE TABLE IF NOT EXISTS state_gone (
    ledger TEXT NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY (ledger, state)
);
CREATE TABLE IF NOT EXISTS keeper (
    number INTEGER PRIMARY KEY CHECK (number = 1),
    id TEXT NOT NULL
);
