-- The index of a ledger: which entries matter to which question. It holds positions, never content:
-- what an entry says is read from the ledger. Everything here can be dropped and built again.
--
-- A table's name ends in the version of this schema and the number of its build, such as change_3_0:
-- a program with another version, and a rebuild, make tables of their own beside those that are read
-- (docs/spec/projections.md, rules 9 and 21). {build} stands for the number.

-- Each build: how far it is, and the leaf hash of the last entry in it, which is the proof of whose
-- index this is. One of them is live: questions are answered from it.
CREATE TABLE IF NOT EXISTS build_3 (
    build       INTEGER PRIMARY KEY AUTOINCREMENT,
    origin      TEXT    NOT NULL,
    size        INTEGER NOT NULL,
    leaf_hash   BLOB    NOT NULL,
    live        INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS build_3_is_live ON build_3 (live) WHERE live = 1;

-- build: what one build consists of

-- Text that is repeated: streams, audiences, asset versions, runs.
CREATE TABLE name_3_{build} (
    id          INTEGER PRIMARY KEY,
    text        TEXT    NOT NULL UNIQUE
) STRICT;

-- The streams of pipelines, and the first entry of each.
CREATE TABLE scope_3_{build} (
    scope       INTEGER PRIMARY KEY,
    first_index INTEGER NOT NULL
) STRICT;

-- What changes for a pipeline and stage: each slot, traffic, shadow traffic, the definition, and "change" for all of them.
CREATE TABLE lane_3_{build} (
    lane        INTEGER PRIMARY KEY,
    audience    INTEGER NOT NULL,
    part        TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    UNIQUE (audience, part, name)
) STRICT;

-- The changes of a lane by effective time: one probe where everything is known.
CREATE TABLE change_3_{build} (
    lane         INTEGER NOT NULL,
    effective_at INTEGER NOT NULL,
    entry        INTEGER NOT NULL,
    PRIMARY KEY (lane, effective_at, entry)
) STRICT, WITHOUT ROWID;

-- The changes of a lane by index, each with the greatest (effective time, index) up to it: one probe
-- where everything known had taken effect.
CREATE TABLE known_3_{build} (
    lane             INTEGER NOT NULL,
    entry            INTEGER NOT NULL,
    top_effective_at INTEGER NOT NULL,
    top_entry        INTEGER NOT NULL,
    PRIMARY KEY (lane, entry)
) STRICT, WITHOUT ROWID;

-- Entries of a pipeline's stream that cannot be read: withheld, erased, of a newer schema.
CREATE TABLE unreadable_3_{build} (
    scope       INTEGER NOT NULL,
    entry       INTEGER NOT NULL,
    PRIMARY KEY (scope, entry)
) STRICT, WITHOUT ROWID;

-- Which changes hold or serve an asset version.
CREATE TABLE use_3_{build} (
    ref          INTEGER NOT NULL,
    lane         INTEGER NOT NULL,
    effective_at INTEGER NOT NULL,
    entry        INTEGER NOT NULL,
    PRIMARY KEY (ref, lane, effective_at, entry)
) STRICT, WITHOUT ROWID;

-- Runs, incidents and approvals that began. A bucket b says that the first end recorded for it lies at
-- most 2^b after the beginning (in microseconds; in entries), -1 that it lies before, 63 that there is none.
CREATE TABLE span_3_{build} (
    entry         INTEGER PRIMARY KEY,
    audience      INTEGER NOT NULL,
    subject       INTEGER NOT NULL,
    effective_at  INTEGER NOT NULL,
    time_bucket   INTEGER NOT NULL,
    entry_bucket  INTEGER NOT NULL
) STRICT;
CREATE INDEX span_3_{build}_by_time ON span_3_{build} (audience, time_bucket, effective_at);
CREATE INDEX span_3_{build}_by_entry ON span_3_{build} (audience, entry_bucket, entry);
CREATE INDEX span_3_{build}_by_subject ON span_3_{build} (subject);

-- What ended them.
CREATE TABLE end_3_{build} (
    subject      INTEGER NOT NULL,
    entry        INTEGER NOT NULL,
    effective_at INTEGER NOT NULL,
    PRIMARY KEY (subject, entry)
) STRICT, WITHOUT ROWID;

-- The first record of each asset version, and the first of each other digest recorded for it.
CREATE TABLE asset_3_{build} (
    ref         INTEGER NOT NULL,
    digest      TEXT    NOT NULL,
    entry       INTEGER NOT NULL,
    PRIMARY KEY (ref, digest)
) STRICT, WITHOUT ROWID;

CREATE TABLE withdrawal_3_{build} (
    ref         INTEGER NOT NULL,
    entry       INTEGER NOT NULL,
    PRIMARY KEY (ref, entry)
) STRICT, WITHOUT ROWID;

-- Which asset version was made from which, as its own record says.
CREATE TABLE parent_3_{build} (
    child        INTEGER NOT NULL,
    parent       INTEGER NOT NULL,
    entry        INTEGER NOT NULL,
    effective_at INTEGER NOT NULL,
    PRIMARY KEY (child, parent, entry)
) STRICT, WITHOUT ROWID;
CREATE INDEX parent_3_{build}_by_parent ON parent_3_{build} (parent, child);

-- Which asset versions a run read (role 0) and made (role 1).
CREATE TABLE run_asset_3_{build} (
    run          INTEGER NOT NULL,
    role         INTEGER NOT NULL,
    ref          INTEGER NOT NULL,
    entry        INTEGER NOT NULL,
    effective_at INTEGER NOT NULL,
    PRIMARY KEY (run, role, ref, entry)
) STRICT, WITHOUT ROWID;
CREATE INDEX run_asset_3_{build}_by_ref ON run_asset_3_{build} (ref, role, run);

-- Entries that could not be indexed, and why. They are read with every state, so that none is lost; one
-- that is not below the build's size holds the index up until it can be applied.
CREATE TABLE dead_letter_3_{build} (
    entry       INTEGER PRIMARY KEY,
    reason      TEXT    NOT NULL
) STRICT;

-- Where a replay may begin: each row is what the entries from start_size on, up to tree_size, leave for
-- the fold, as canonical JSON with its digest (docs/spec/projections.md, rules 27 to 31).
CREATE TABLE snapshot_3_{build} (
    start_size  INTEGER PRIMARY KEY,
    tree_size   INTEGER NOT NULL,
    digest      TEXT    NOT NULL,
    body        TEXT    NOT NULL
) STRICT;
