-- The statements of projections/index.py and indexing.py by name, for PostgreSQL. %(at)s is an effective time,
-- %(known)s the number of entries known, {build} is the build that is asked. All integers are sent as bigint.

-- name: is_there
-- Read from the catalog's tables, as another process has just left them: to_regclass() would answer from memory.
SELECT EXISTS (SELECT FROM pg_class WHERE relname = 'build_3' AND relnamespace IN (
           SELECT oid FROM pg_namespace WHERE nspname = 'asof_projections')),
       EXISTS (SELECT FROM pg_namespace WHERE nspname = 'asof_projections');

-- name: projector
-- Whether this session may act as the role that owns the tables; where there is no such role, nobody needs it.
SELECT EXISTS (
    SELECT FROM pg_roles WHERE rolname = 'asof_projector' AND pg_has_role(current_user, oid, 'MEMBER'));

-- name: act_as_projector
SET ROLE asof_projector;

-- name: session
-- The statements are made of probes: compiling them, or planning them anew for each value, only costs. What a
-- power loss takes of an index is indexed again: rows and position are one transaction, in the log's order.
SELECT set_config('jit', 'off', false), set_config('plan_cache_mode', 'force_generic_plan', false),
    set_config('synchronous_commit', 'off', false);

-- name: ledger_number
SELECT id FROM asof.ledger WHERE origin = %s;

-- name: patience
-- For what takes as long as a table is: until the transaction ends.
SET LOCAL statement_timeout = 0;

-- name: make_schema
CREATE SCHEMA asof_projections;

-- name: lock_schema
-- One process at a time makes or drops tables in this database, until its transaction ends.
SELECT pg_advisory_xact_lock(hashtext('asof projections'), 0);

-- name: share
-- While a reader holds this, no build of the ledger is dropped.
SELECT pg_advisory_xact_lock_shared(hashtext('asof projections of'), %(ledger)s::integer);

-- name: exclude
SELECT pg_advisory_xact_lock(hashtext('asof projections of'), %(ledger)s::integer);

-- name: builds
SELECT build, origin, size, leaf_hash, live FROM asof_projections.build_3
WHERE ledger = %(ledger)s ORDER BY build;

-- name: live_build
SELECT build, origin, size, leaf_hash, live FROM asof_projections.build_3 WHERE ledger = %(ledger)s AND live;

-- name: own_build
SELECT build, origin, size, leaf_hash, live FROM asof_projections.build_3
WHERE ledger = %(ledger)s AND build = {build};

-- name: hold_live_build
SELECT build, origin, size, leaf_hash, live FROM asof_projections.build_3
WHERE ledger = %(ledger)s AND live FOR UPDATE;

-- name: hold_own_build
SELECT build, origin, size, leaf_hash, live FROM asof_projections.build_3
WHERE ledger = %(ledger)s AND build = {build} FOR UPDATE;

-- name: next_build
SELECT nextval('asof_projections.build_number_3');

-- name: add_build
INSERT INTO asof_projections.build_3 (ledger, build, origin, size, leaf_hash, live)
VALUES (%(ledger)s, {build}, %(origin)s, 0, '', %(live)s) ON CONFLICT DO NOTHING;

-- name: advance
UPDATE asof_projections.build_3 SET size = %(size)s, leaf_hash = %(leaf_hash)s
WHERE ledger = %(ledger)s AND build = {build};

-- name: retire
UPDATE asof_projections.build_3 SET live = false WHERE ledger = %(ledger)s AND live;

-- name: go_live
UPDATE asof_projections.build_3 SET live = true WHERE ledger = %(ledger)s AND build = {build};

-- name: forget_build
DELETE FROM asof_projections.build_3 WHERE ledger = %(ledger)s AND build = {build};

-- name: forget_rows
-- {table} is one of the build's.
DELETE FROM asof_projections.{table}_3_{build} WHERE ledger = %(ledger)s;

-- name: drop_table
DROP TABLE IF EXISTS asof_projections.{table}_3_{build};

-- name: analyze
ANALYZE asof_projections.{table}_3_{build};

-- name: digest
-- The number of rows, and their hashes laid over each other: the same for any order. Without the ledger, which
-- comes first; no row is there twice.
SELECT count(*) || '/' || coalesce(bit_xor(hashtextextended(substr(t::text, strpos(t::text, ',')), 0)), 0)
FROM asof_projections.{table}_3_{build} t WHERE ledger = %(ledger)s;

-- name: knows_scope
SELECT 1 FROM asof_projections.name_3_{build} n
JOIN asof_projections.scope_3_{build} s ON s.ledger = n.ledger AND s.scope = n.id
WHERE n.ledger = %(ledger)s AND n.text = %(stream)s AND s.first_index < %(size)s;

-- name: scopes
SELECT n.text FROM asof_projections.scope_3_{build} s
JOIN asof_projections.name_3_{build} n ON n.ledger = s.ledger AND n.id = s.scope
WHERE s.ledger = %(ledger)s AND s.first_index < %(size)s ORDER BY n.text;

-- name: of_live_build
-- {question} with the size of the build that it is asked of: one statement, so one moment. No row where that build
-- is not the live one; a row without `is_row` where the question has none.
SELECT b.size, q.* FROM asof_projections.build_3 b
LEFT JOIN (SELECT true AS is_row, asked.* FROM ({question}) asked) q ON true
WHERE b.ledger = %(ledger)s AND b.build = {build} AND b.live;

-- name: deciding
-- No row where no entry is about the pipeline and stage; else one without an entry, and these.
-- Of each lane the entry that decides it at T among the first K: the greatest known change, one probe, if it
-- had taken effect by then; else the greatest of those that had, passing over late arrivals that were recorded
-- after K. Beside it, of all changes, the first that took effect after T. Then whatever is always read: what
-- cannot be read, and what could not be indexed.
-- Then the beginnings of what may be open: because its first end takes effect after T (in each bucket only what
-- began less than its width before T), or because that end was recorded after K (likewise in entries). And all
-- known ends of the same subjects. OFFSET 0 keeps each bucket a probe of its own, whatever the statistics say.
-- UNION ALL throughout: to find doubles the server makes room for as many rows as it guesses, and it guesses
-- thousands (docs/adr/0106).
WITH audience AS MATERIALIZED (
    SELECT id, bucket, width FROM asof_projections.name_3_{build}
    CROSS JOIN (
        SELECT b::bigint AS bucket, 1::bigint << b AS width FROM generate_series(0, 61) b
        UNION ALL SELECT 63, 1::bigint << 62) bucket
    WHERE ledger = %(ledger)s AND text = ANY(%(audiences)s::text[])
), begun AS MATERIALIZED (
    SELECT s.entry, s.subject FROM audience a CROSS JOIN LATERAL (
        SELECT entry, subject FROM asof_projections.span_3_{build}
        WHERE ledger = %(ledger)s AND audience = a.id AND time_bucket = a.bucket
          AND effective_at > %(at)s - a.width AND effective_at <= %(at)s AND entry < %(known)s OFFSET 0) s
    UNION ALL
    SELECT s.entry, s.subject FROM audience a CROSS JOIN LATERAL (
        SELECT entry, subject FROM asof_projections.span_3_{build}
        WHERE ledger = %(ledger)s AND audience = a.id AND entry_bucket = a.bucket
          AND entry >= %(known)s - a.width AND entry < %(known)s AND effective_at <= %(at)s OFFSET 0) s
)
SELECT found.entry, found.after FROM (
    SELECT NULL::bigint AS entry, NULL::bigint AS after
    UNION ALL
    SELECT CASE WHEN k.top_effective_at <= %(at)s THEN k.top_entry ELSE (
               SELECT c.entry FROM asof_projections.change_3_{build} c
               WHERE c.ledger = l.ledger AND c.lane = l.lane AND c.effective_at <= %(at)s AND c.entry < %(known)s
               ORDER BY c.effective_at DESC, c.entry DESC LIMIT 1) END,
           CASE WHEN l.part = 'change' AND k.top_effective_at > %(at)s THEN (
               SELECT c.entry FROM asof_projections.change_3_{build} c
               WHERE c.ledger = l.ledger AND c.lane = l.lane AND c.effective_at > %(at)s AND c.entry < %(known)s
               ORDER BY c.effective_at, c.entry LIMIT 1) END
    FROM asof_projections.name_3_{build} n
    JOIN asof_projections.lane_3_{build} l ON l.ledger = n.ledger AND l.audience = n.id
    CROSS JOIN LATERAL (
        SELECT top_effective_at, top_entry FROM asof_projections.known_3_{build}
        WHERE ledger = l.ledger AND lane = l.lane AND entry < %(known)s ORDER BY entry DESC LIMIT 1) k
    WHERE n.ledger = %(ledger)s AND n.text = %(audience)s
    UNION ALL
    SELECT u.entry, NULL FROM asof_projections.name_3_{build} n
    JOIN asof_projections.unreadable_3_{build} u ON u.ledger = n.ledger AND u.scope = n.id
    WHERE n.ledger = %(ledger)s AND n.text = %(stream)s AND u.entry < %(known)s
    UNION ALL
    SELECT entry, NULL FROM asof_projections.dead_letter_3_{build}
    WHERE ledger = %(ledger)s AND entry < %(known)s
    UNION ALL
    SELECT entry, NULL FROM begun
    UNION ALL
    SELECT e.entry, NULL FROM begun b CROSS JOIN LATERAL (
        SELECT entry FROM asof_projections.end_3_{build}
        WHERE ledger = %(ledger)s AND subject = b.subject AND entry < %(known)s OFFSET 0) e
) found
WHERE EXISTS (
    SELECT 1 FROM asof_projections.name_3_{build} n
    JOIN asof_projections.scope_3_{build} s ON s.ledger = n.ledger AND s.scope = n.id
    WHERE n.ledger = %(ledger)s AND n.text = %(stream)s AND s.first_index < %(size)s);

-- name: latest
SELECT CASE WHEN k.top_effective_at <= %(at)s THEN k.top_entry ELSE (
           SELECT c.entry FROM asof_projections.change_3_{build} c
           WHERE c.ledger = k.ledger AND c.lane = k.lane AND c.effective_at <= %(at)s AND c.entry < %(known)s
           ORDER BY c.effective_at DESC, c.entry DESC LIMIT 1) END
FROM asof_projections.known_3_{build} k
WHERE k.ledger = %(ledger)s AND k.lane = %(lane)s AND k.entry < %(known)s ORDER BY k.entry DESC LIMIT 1;

-- name: records
SELECT a.entry FROM asof_projections.name_3_{build} n
JOIN asof_projections.asset_3_{build} a ON a.ledger = n.ledger AND a.ref = n.id
WHERE n.ledger = %(ledger)s AND n.text = ANY(%(refs)s::text[]) AND a.entry < %(known)s
UNION ALL
SELECT w.entry FROM asof_projections.name_3_{build} n
JOIN asof_projections.withdrawal_3_{build} w ON w.ledger = n.ledger AND w.ref = n.id
WHERE n.ledger = %(ledger)s AND n.text = ANY(%(refs)s::text[]) AND w.entry < %(known)s;

-- name: lanes
SELECT l.lane, l.part, l.name FROM asof_projections.name_3_{build} n
JOIN asof_projections.lane_3_{build} l ON l.ledger = n.ledger AND l.audience = n.id
WHERE n.ledger = %(ledger)s AND n.text = %(audience)s;

-- name: changes_in_order
SELECT effective_at, entry FROM asof_projections.change_3_{build}
WHERE ledger = %(ledger)s AND lane = %(lane)s AND (effective_at, entry) > (%(after_at)s, %(after_entry)s)
  AND effective_at <= %(at)s AND entry < %(known)s
ORDER BY effective_at, entry LIMIT %(page)s;

-- name: changes_by_time
SELECT entry FROM asof_projections.change_3_{build}
WHERE ledger = %(ledger)s AND lane = %(lane)s AND effective_at > %(start)s AND effective_at <= %(stop)s
  AND entry < %(known)s
ORDER BY entry DESC LIMIT %(page)s;

-- name: changes_by_entry
SELECT entry FROM asof_projections.known_3_{build}
WHERE ledger = %(ledger)s AND lane = %(lane)s AND entry >= %(start)s AND entry < %(stop)s
ORDER BY entry DESC LIMIT %(page)s;

-- name: intervals
-- The changes that hold a version, each until the next change of its lane; not those about whose very instant
-- a greater index says something else.
SELECT a.text, l.part, l.name, u.entry, u.effective_at, (
    SELECT c.effective_at FROM asof_projections.change_3_{build} c
    WHERE c.ledger = u.ledger AND c.lane = u.lane AND c.effective_at > u.effective_at AND c.entry < %(known)s
    ORDER BY c.effective_at, c.entry LIMIT 1)
FROM asof_projections.name_3_{build} n
JOIN asof_projections.use_3_{build} u ON u.ledger = n.ledger AND u.ref = n.id
JOIN asof_projections.lane_3_{build} l ON l.ledger = u.ledger AND l.lane = u.lane
JOIN asof_projections.name_3_{build} a ON a.ledger = l.ledger AND a.id = l.audience
WHERE n.ledger = %(ledger)s AND n.text = %(ref)s AND u.effective_at <= %(at)s AND u.entry < %(known)s
  AND NOT EXISTS (
    SELECT 1 FROM asof_projections.change_3_{build} c
    WHERE c.ledger = u.ledger AND c.lane = u.lane AND c.effective_at = u.effective_at AND c.entry > u.entry
      AND c.entry < %(known)s)
ORDER BY u.lane, u.effective_at, u.entry LIMIT %(page)s;

-- name: parents
SELECT n.text, p.entry, p.effective_at FROM asof_projections.name_3_{build} c
JOIN asof_projections.parent_3_{build} p ON p.ledger = c.ledger AND p.child = c.id
JOIN asof_projections.name_3_{build} n ON n.ledger = p.ledger AND n.id = p.parent
WHERE c.ledger = %(ledger)s AND c.text = %(ref)s AND p.effective_at <= %(at)s AND p.entry < %(known)s
ORDER BY n.text, p.entry LIMIT %(page)s;

-- name: children
SELECT n.text, p.entry, p.effective_at FROM asof_projections.name_3_{build} c
JOIN asof_projections.parent_3_{build} p ON p.ledger = c.ledger AND p.parent = c.id
JOIN asof_projections.name_3_{build} n ON n.ledger = p.ledger AND n.id = p.child
WHERE c.ledger = %(ledger)s AND c.text = %(ref)s AND p.effective_at <= %(at)s AND p.entry < %(known)s
ORDER BY n.text, p.entry LIMIT %(page)s;

-- name: run_sides
-- What lies on the other side of the runs that touch a version: the inputs of those that made it (near 1, far 0),
-- the outputs of those that read it (near 0, far 1).
SELECT other.text, run.text, greatest(far.entry, near.entry), greatest(far.effective_at, near.effective_at)
FROM asof_projections.name_3_{build} n
JOIN asof_projections.run_asset_3_{build} near ON near.ledger = n.ledger AND near.ref = n.id AND near.role = %(near)s
JOIN asof_projections.run_asset_3_{build} far ON far.ledger = n.ledger AND far.run = near.run AND far.role = %(far)s
JOIN asof_projections.name_3_{build} other ON other.ledger = n.ledger AND other.id = far.ref
JOIN asof_projections.name_3_{build} run ON run.ledger = n.ledger AND run.id = near.run
WHERE n.ledger = %(ledger)s AND n.text = %(ref)s AND near.effective_at <= %(at)s AND near.entry < %(known)s
  AND far.effective_at <= %(at)s AND far.entry < %(known)s
ORDER BY other.text, run.text, 3 LIMIT %(page)s;

-- name: runs_of
SELECT run.text, r.role, r.entry FROM asof_projections.name_3_{build} n
JOIN asof_projections.run_asset_3_{build} r ON r.ledger = n.ledger AND r.ref = n.id
JOIN asof_projections.name_3_{build} run ON run.ledger = n.ledger AND run.id = r.run
WHERE n.ledger = %(ledger)s AND n.text = %(ref)s AND r.effective_at <= %(at)s AND r.entry < %(known)s
ORDER BY r.entry LIMIT %(page)s;

-- name: is_named
-- Whether a known entry records or withdraws the version, uses it, or says what it was made from.
SELECT 1 FROM asof_projections.name_3_{build} n WHERE n.ledger = %(ledger)s AND n.text = %(ref)s AND (
    EXISTS (SELECT 1 FROM asof_projections.asset_3_{build}
            WHERE ledger = n.ledger AND ref = n.id AND entry < %(known)s)
    OR EXISTS (SELECT 1 FROM asof_projections.withdrawal_3_{build}
               WHERE ledger = n.ledger AND ref = n.id AND entry < %(known)s)
    OR EXISTS (SELECT 1 FROM asof_projections.use_3_{build}
               WHERE ledger = n.ledger AND ref = n.id AND effective_at <= %(at)s AND entry < %(known)s)
    OR EXISTS (SELECT 1 FROM asof_projections.run_asset_3_{build}
               WHERE ledger = n.ledger AND ref = n.id AND effective_at <= %(at)s AND entry < %(known)s)
    OR EXISTS (SELECT 1 FROM asof_projections.parent_3_{build}
               WHERE ledger = n.ledger AND child = n.id AND effective_at <= %(at)s AND entry < %(known)s)
    OR EXISTS (SELECT 1 FROM asof_projections.parent_3_{build}
               WHERE ledger = n.ledger AND parent = n.id AND effective_at <= %(at)s AND entry < %(known)s));

-- name: name_ids
-- OFFSET 0 in what looks up many at once: a probe for each, whatever the statistics of a growing table say.
SELECT n.text, n.id FROM unnest(%(texts)s::text[]) t (text) CROSS JOIN LATERAL (
    SELECT text, id FROM asof_projections.name_3_{build}
    WHERE ledger = %(ledger)s AND text = t.text OFFSET 0) n;

-- name: greatest_ids
SELECT (SELECT coalesce(max(id), 0) FROM asof_projections.name_3_{build} WHERE ledger = %(ledger)s),
       (SELECT coalesce(max(lane), 0) FROM asof_projections.lane_3_{build} WHERE ledger = %(ledger)s);

-- name: lanes_of
SELECT l.audience, l.part, l.name, l.lane FROM unnest(%(audiences)s::bigint[]) a (id) CROSS JOIN LATERAL (
    SELECT audience, part, name, lane FROM asof_projections.lane_3_{build}
    WHERE ledger = %(ledger)s AND audience = a.id OFFSET 0) l;

-- name: tops
-- The greatest change of each lane so far.
SELECT l.lane, k.top_effective_at, k.top_entry FROM unnest(%(lanes)s::bigint[]) l (lane) CROSS JOIN LATERAL (
    SELECT top_effective_at, top_entry FROM asof_projections.known_3_{build}
    WHERE ledger = %(ledger)s AND lane = l.lane ORDER BY entry DESC LIMIT 1) k;

-- name: first_ends
SELECT s.subject, e.entry, e.effective_at FROM unnest(%(subjects)s::bigint[]) s (subject) CROSS JOIN LATERAL (
    SELECT entry, effective_at FROM asof_projections.end_3_{build}
    WHERE ledger = %(ledger)s AND subject = s.subject ORDER BY entry LIMIT 1) e;

-- name: spans_of
SELECT s.subject, p.entry, p.effective_at FROM unnest(%(subjects)s::bigint[]) s (subject) CROSS JOIN LATERAL (
    SELECT entry, effective_at FROM asof_projections.span_3_{build}
    WHERE ledger = %(ledger)s AND subject = s.subject OFFSET 0) p;

-- name: add_name
-- What is added is sent as one array a column; a load copies the same columns instead.
INSERT INTO asof_projections.name_3_{build} (ledger, id, text)
SELECT %s, * FROM unnest(%s::bigint[], %s::text[]);

-- name: add_scope
INSERT INTO asof_projections.scope_3_{build} (ledger, scope, first_index)
SELECT %s, * FROM unnest(%s::bigint[], %s::bigint[]) ON CONFLICT DO NOTHING;

-- name: add_lane
INSERT INTO asof_projections.lane_3_{build} (ledger, lane, audience, part, name)
SELECT %s, * FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::text[]);

-- name: add_change
INSERT INTO asof_projections.change_3_{build} (ledger, lane, effective_at, entry)
SELECT %s, * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[]);

-- name: add_known
INSERT INTO asof_projections.known_3_{build} (ledger, lane, entry, top_effective_at, top_entry)
SELECT %s, * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[]);

-- name: add_unreadable
INSERT INTO asof_projections.unreadable_3_{build} (ledger, scope, entry)
SELECT %s, * FROM unnest(%s::bigint[], %s::bigint[]);

-- name: add_use
INSERT INTO asof_projections.use_3_{build} (ledger, ref, lane, effective_at, entry)
SELECT %s, * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[]);

-- name: add_span
INSERT INTO asof_projections.span_3_{build}
    (ledger, entry, audience, subject, effective_at, time_bucket, entry_bucket)
SELECT %s, * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[]);

-- name: add_end
INSERT INTO asof_projections.end_3_{build} (ledger, subject, entry, effective_at)
SELECT %s, * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[]);

-- name: add_asset
INSERT INTO asof_projections.asset_3_{build} (ledger, ref, digest, entry)
SELECT %s, * FROM unnest(%s::bigint[], %s::text[], %s::bigint[]) ON CONFLICT DO NOTHING;

-- name: add_withdrawal
INSERT INTO asof_projections.withdrawal_3_{build} (ledger, ref, entry)
SELECT %s, * FROM unnest(%s::bigint[], %s::bigint[]);

-- name: add_parent
INSERT INTO asof_projections.parent_3_{build} (ledger, child, parent, entry, effective_at)
SELECT %s, * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[]);

-- name: add_run_asset
INSERT INTO asof_projections.run_asset_3_{build} (ledger, run, role, ref, entry, effective_at)
SELECT %s, * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[]);

-- name: close_span
UPDATE asof_projections.span_3_{build} s SET time_bucket = c.time_bucket, entry_bucket = c.entry_bucket
FROM (SELECT %s::integer AS ledger, * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[])
      AS given (time_bucket, entry_bucket, entry)) c
WHERE s.ledger = c.ledger AND s.entry = c.entry;

-- name: add_dead_letter
INSERT INTO asof_projections.dead_letter_3_{build} (ledger, entry, reason)
SELECT %s, * FROM unnest(%s::bigint[], %s::text[])
ON CONFLICT (ledger, entry) DO UPDATE SET reason = excluded.reason;

-- name: dead_letters
SELECT entry, reason FROM asof_projections.dead_letter_3_{build}
WHERE ledger = %(ledger)s ORDER BY entry LIMIT %(page)s;

-- name: forget_dead_letters
-- Those that held the index up and were applied after all.
DELETE FROM asof_projections.dead_letter_3_{build} WHERE ledger = %(ledger)s AND entry >= %(size)s;

-- name: add_snapshot
INSERT INTO asof_projections.snapshot_3_{build} (ledger, start_size, tree_size, digest, body)
SELECT %s, * FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::text[])
ON CONFLICT (ledger, start_size)
DO UPDATE SET tree_size = excluded.tree_size, digest = excluded.digest, body = excluded.body;

-- name: snapshot_from
SELECT tree_size, digest, body FROM asof_projections.snapshot_3_{build}
WHERE ledger = %(ledger)s AND start_size = %(start_size)s;

-- name: newest_snapshot
SELECT max(tree_size) FROM asof_projections.snapshot_3_{build} WHERE ledger = %(ledger)s;
