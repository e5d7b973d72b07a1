-- The index of a ledger: which entries matter to which question. It holds positions, never content:
-- what an entry says is read from the ledger. Everything here can be dropped and built again.
--
-- Version 1. A table of another version has another number in its name (docs/spec/projections.md, rule 9).

-- How far the entries are indexed, and the leaf hash of the last of them: the proof of whose index this is.
CREATE TABLE IF NOT EXISTS position_1 (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    origin      TEXT    NOT NULL,
    size        INTEGER NOT NULL,
    leaf_hash   BLOB    NOT NULL
) STRICT;

-- Text that is repeated: streams, audiences, asset versions, runs.
CREATE TABLE IF NOT EXISTS name_1 (
    id          INTEGER PRIMARY KEY,
    text        TEXT    NOT NULL UNIQUE
) STRICT;

-- The streams of pipelines, and the first entry of each.
CREATE TABLE IF NOT EXISTS scope_1 (
    scope       INTEGER PRIMARY KEY,
    first_index INTEGER NOT NULL
) STRICT;

-- What changes for a pipeline and stage: each slot, traffic, shadow traffic, the definition, and "change" for all of them.
CREATE TABLE IF NOT EXISTS lane_1 (
    lane        INTEGER PRIMARY KEY,
    audience    INTEGER NOT NULL,
    part        TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    UNIQUE (audience, part, name)
) STRICT;

-- The changes of a lane by effective time: one probe where everything is known.
CREATE TABLE IF NOT EXISTS change_1 (
    lane         INTEGER NOT NULL,
    effective_at INTEGER NOT NULL,
    entry        INTEGER NOT NULL,
    PRIMARY KEY (lane, effective_at, entry)
) STRICT, WITHOUT ROWID;

-- The changes of a lane by index, each with the greatest (effective time, index) up to it: one probe
-- where everything known had taken effect.
CREATE TABLE IF NOT EXISTS known_1 (
    lane             INTEGER NOT NULL,
    entry            INTEGER NOT NULL,
    top_effective_at INTEGER NOT NULL,
    top_entry        INTEGER NOT NULL,
    PRIMARY KEY (lane, entry)
) STRICT, WITHOUT ROWID;

-- Entries of a pipeline's stream that cannot be read: withheld, erased, of a newer schema.
CREATE TABLE IF NOT EXISTS unreadable_1 (
    scope       INTEGER NOT NULL,
    entry       INTEGER NOT NULL,
    PRIMARY KEY (scope, entry)
) STRICT, WITHOUT ROWID;

-- Which changes hold or serve an asset version.
CREATE TABLE IF NOT EXISTS use_1 (
    ref          INTEGER NOT NULL,
    lane         INTEGER NOT NULL,
    effective_at INTEGER NOT NULL,
    entry        INTEGER NOT NULL,
    PRIMARY KEY (ref, lane, effective_at, entry)
) STRICT, WITHOUT ROWID;

-- Runs, incidents and approvals that began. A bucket b says that the first end recorded for it lies at
-- most 2^b after the beginning (in microseconds; in entries), -1 that it lies before, 63 that there is none.
CREATE TABLE IF NOT EXISTS span_1 (
    entry         INTEGER PRIMARY KEY,
    audience      INTEGER NOT NULL,
    subject       INTEGER NOT NULL,
    effective_at  INTEGER NOT NULL,
    time_bucket   INTEGER NOT NULL,
    entry_bucket  INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS span_1_by_time ON span_1 (audience, time_bucket, effective_at);
CREATE INDEX IF NOT EXISTS span_1_by_entry ON span_1 (audience, entry_bucket, entry);
CREATE INDEX IF NOT EXISTS span_1_by_subject ON span_1 (subject);

-- What ended them.
CREATE TABLE IF NOT EXISTS end_1 (
    subject      INTEGER NOT NULL,
    entry        INTEGER NOT NULL,
    effective_at INTEGER NOT NULL,
    PRIMARY KEY (subject, entry)
) STRICT, WITHOUT ROWID;

-- The width of each bucket.
CREATE TABLE IF NOT EXISTS bucket_1 (
    bucket      INTEGER PRIMARY KEY,
    width       INTEGER NOT NULL
) STRICT;

-- The first record of each asset version, and the first of each other digest recorded for it.
CREATE TABLE IF NOT EXISTS asset_1 (
    ref         INTEGER NOT NULL,
    digest      TEXT    NOT NULL,
    entry       INTEGER NOT NULL,
    PRIMARY KEY (ref, digest)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS withdrawal_1 (
    ref         INTEGER NOT NULL,
    entry       INTEGER NOT NULL,
    PRIMARY KEY (ref, entry)
) STRICT, WITHOUT ROWID;

-- Which asset version was made from which, as its own record says.
CREATE TABLE IF NOT EXISTS parent_1 (
    child        INTEGER NOT NULL,
    parent       INTEGER NOT NULL,
    entry        INTEGER NOT NULL,
    effective_at INTEGER NOT NULL,
    PRIMARY KEY (child, parent, entry)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS parent_1_by_parent ON parent_1 (parent, child);

-- Which asset versions a run read (role 0) and made (role 1).
CREATE TABLE IF NOT EXISTS run_asset_1 (
    run          INTEGER NOT NULL,
    role         INTEGER NOT NULL,
    ref          INTEGER NOT NULL,
    entry        INTEGER NOT NULL,
    effective_at INTEGER NOT NULL,
    PRIMARY KEY (run, role, ref, entry)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS run_asset_1_by_ref ON run_asset_1 (ref, role, run);
