-- The index of ledgers that lie in PostgreSQL: which entries matter to which question. It holds positions,
-- never content. Everything here can be dropped and built again, and is no part of any ledger.
--
-- It lies in the schema asof_projections, which the role asof_projector owns. Every primary key begins with
-- the ledger. A table's name ends in the version of this schema and the number of its build, such as
-- change_3_0. Build 0 is shared by all ledgers that were never rebuilt; a rebuild makes tables of its own
-- (docs/adr/0072). {build} stands for the number.

-- Each build of each ledger: how far it is, and the leaf hash of the last entry in it, which is the proof of
-- whose index this is. One of them is live: questions are answered from it.
CREATE TABLE asof_projections.build_3 (
    ledger      integer NOT NULL,
    build       integer NOT NULL,
    origin      text COLLATE "C" NOT NULL,
    size        bigint  NOT NULL,
    leaf_hash   bytea   NOT NULL,
    live        boolean NOT NULL,
    PRIMARY KEY (ledger, build)
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX build_3_is_live ON asof_projections.build_3 (ledger) WHERE live;

-- Numbers are given once: a rebuild that lost its place never writes to the tables of another.
CREATE SEQUENCE asof_projections.build_number_3;

-- build: what one build consists of, and the keys without which it cannot be filled

-- Text that is repeated: streams, audiences, asset versions, runs.
CREATE TABLE asof_projections.name_3_{build} (
    ledger      integer NOT NULL,
    id          bigint  NOT NULL,
    text        text COLLATE "C" NOT NULL,
    PRIMARY KEY (ledger, id)
);
CREATE UNIQUE INDEX name_3_{build}_by_text ON asof_projections.name_3_{build} (ledger, text);

-- The streams of pipelines, and the first entry of each.
CREATE TABLE asof_projections.scope_3_{build} (
    ledger      integer NOT NULL,
    scope       bigint  NOT NULL,
    first_index bigint  NOT NULL,
    PRIMARY KEY (ledger, scope)
);

-- What changes for a pipeline and stage: each slot, traffic, shadow traffic, the definition, and "change" for all.
CREATE TABLE asof_projections.lane_3_{build} (
    ledger      integer NOT NULL,
    lane        bigint  NOT NULL,
    audience    bigint  NOT NULL,
    part        text COLLATE "C" NOT NULL,
    name        text COLLATE "C" NOT NULL,
    PRIMARY KEY (ledger, lane)
);
CREATE UNIQUE INDEX lane_3_{build}_by_name
ON asof_projections.lane_3_{build} (ledger, audience, part, name) INCLUDE (lane);

-- The changes of a lane by effective time: one probe where everything is known.
CREATE TABLE asof_projections.change_3_{build} (
    ledger       integer NOT NULL,
    lane         bigint  NOT NULL,
    effective_at bigint  NOT NULL,
    entry        bigint  NOT NULL
);

-- The changes of a lane by index, each with the greatest (effective time, index) up to it: one probe where
-- everything known had taken effect.
CREATE TABLE asof_projections.known_3_{build} (
    ledger           integer NOT NULL,
    lane             bigint  NOT NULL,
    entry            bigint  NOT NULL,
    top_effective_at bigint  NOT NULL,
    top_entry        bigint  NOT NULL,
    PRIMARY KEY (ledger, lane, entry)
);

-- Entries of a pipeline's stream that cannot be read: withheld, erased, of a newer schema.
CREATE TABLE asof_projections.unreadable_3_{build} (
    ledger      integer NOT NULL,
    scope       bigint  NOT NULL,
    entry       bigint  NOT NULL,
    PRIMARY KEY (ledger, scope, entry)
);

-- Which changes hold or serve an asset version.
CREATE TABLE asof_projections.use_3_{build} (
    ledger       integer NOT NULL,
    ref          bigint  NOT NULL,
    lane         bigint  NOT NULL,
    effective_at bigint  NOT NULL,
    entry        bigint  NOT NULL
);

-- Runs, incidents and approvals that began. A bucket b says that the first end recorded for it lies at most
-- 2^b after the beginning (in microseconds; in entries), -1 that it lies before, 63 that there is none.
CREATE TABLE asof_projections.span_3_{build} (
    ledger        integer NOT NULL,
    entry         bigint  NOT NULL,
    audience      bigint  NOT NULL,
    subject       bigint  NOT NULL,
    effective_at  bigint  NOT NULL,
    time_bucket   bigint  NOT NULL,
    entry_bucket  bigint  NOT NULL,
    PRIMARY KEY (ledger, entry)
);
CREATE INDEX span_3_{build}_by_subject ON asof_projections.span_3_{build} (ledger, subject);

-- What ended them.
CREATE TABLE asof_projections.end_3_{build} (
    ledger       integer NOT NULL,
    subject      bigint  NOT NULL,
    entry        bigint  NOT NULL,
    effective_at bigint  NOT NULL,
    PRIMARY KEY (ledger, subject, entry)
);

-- The first record of each asset version, and the first of each other digest recorded for it.
CREATE TABLE asof_projections.asset_3_{build} (
    ledger      integer NOT NULL,
    ref         bigint  NOT NULL,
    digest      text COLLATE "C" NOT NULL,
    entry       bigint  NOT NULL,
    PRIMARY KEY (ledger, ref, digest)
);

CREATE TABLE asof_projections.withdrawal_3_{build} (
    ledger      integer NOT NULL,
    ref         bigint  NOT NULL,
    entry       bigint  NOT NULL,
    PRIMARY KEY (ledger, ref, entry)
);

-- Which asset version was made from which, as its own record says.
CREATE TABLE asof_projections.parent_3_{build} (
    ledger       integer NOT NULL,
    child        bigint  NOT NULL,
    parent       bigint  NOT NULL,
    entry        bigint  NOT NULL,
    effective_at bigint  NOT NULL
);

-- Which asset versions a run read (role 0) and made (role 1).
CREATE TABLE asof_projections.run_asset_3_{build} (
    ledger       integer NOT NULL,
    run          bigint  NOT NULL,
    role         bigint  NOT NULL,
    ref          bigint  NOT NULL,
    entry        bigint  NOT NULL,
    effective_at bigint  NOT NULL
);

-- Entries that could not be indexed, and why. They are read with every state, so that none is lost; one that
-- is not below the build's size holds the index up until it can be applied.
CREATE TABLE asof_projections.dead_letter_3_{build} (
    ledger      integer NOT NULL,
    entry       bigint  NOT NULL,
    reason      text    NOT NULL,
    PRIMARY KEY (ledger, entry)
);

-- Where a replay may begin: each row is what the entries from start_size on, up to tree_size, leave for the fold,
-- as canonical JSON with its digest (docs/spec/projections.md, rules 27 to 31).
CREATE TABLE asof_projections.snapshot_3_{build} (
    ledger      integer NOT NULL,
    start_size  bigint  NOT NULL,
    tree_size   bigint  NOT NULL,
    digest      text    NOT NULL,
    body        text    NOT NULL,
    PRIMARY KEY (ledger, start_size)
);

-- loaded: the keys that only questions need; of a rebuild they are made when its rows are there

ALTER TABLE asof_projections.change_3_{build} ADD PRIMARY KEY (ledger, lane, effective_at, entry);
ALTER TABLE asof_projections.use_3_{build} ADD PRIMARY KEY (ledger, ref, lane, effective_at, entry);
CREATE INDEX span_3_{build}_by_time
ON asof_projections.span_3_{build} (ledger, audience, time_bucket, effective_at) INCLUDE (entry, subject);
CREATE INDEX span_3_{build}_by_entry
ON asof_projections.span_3_{build} (ledger, audience, entry_bucket, entry) INCLUDE (effective_at, subject);
ALTER TABLE asof_projections.parent_3_{build} ADD PRIMARY KEY (ledger, child, parent, entry);
CREATE INDEX parent_3_{build}_by_parent ON asof_projections.parent_3_{build} (ledger, parent, child);
ALTER TABLE asof_projections.run_asset_3_{build} ADD PRIMARY KEY (ledger, run, role, ref, entry);
CREATE INDEX run_asset_3_{build}_by_ref
ON asof_projections.run_asset_3_{build} (ledger, ref, role, run);
