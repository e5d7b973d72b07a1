PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS delivery (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    ledger TEXT NOT NULL,
    system TEXT NOT NULL,
    delivery TEXT NOT NULL,
    actor TEXT NOT NULL,
    headers TEXT NOT NULL,
    body BLOB NOT NULL,
    taken_at INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'done', 'dead')),
    attempts INTEGER NOT NULL DEFAULT 0,
    not_before INTEGER NOT NULL DEFAULT 0,
    reason TEXT,
    UNIQUE (ledger, system, delivery)
);
CREATE INDEX IF NOT EXISTS delivery_waiting ON delivery (state, id);
CREATE INDEX IF NOT EXISTS delivery_done ON delivery (taken_at) WHERE state = 'done';
