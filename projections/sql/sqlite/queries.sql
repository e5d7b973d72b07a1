-- The statements of projections/index.py and indexing.py by name, for SQLite. :at is an effective time,
-- :known the number of entries known, a list is bound as a JSON array, {build} is the build that is asked.

-- name: builds
SELECT build, origin, size, leaf_hash, live FROM build_3 ORDER BY build;

-- name: add_build
INSERT INTO build_3 (build, origin, size, leaf_hash, live) VALUES (:build, :origin, 0, x'', :live);

-- name: advance
UPDATE build_3 SET size = :size, leaf_hash = :leaf_hash WHERE build = {build};

-- name: retire
UPDATE build_3 SET live = 0 WHERE live = 1;

-- name: go_live
UPDATE build_3 SET live = 1 WHERE build = {build};

-- name: forget_build
DELETE FROM build_3 WHERE build = {build};

-- name: tables
SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name;

-- name: knows_scope
SELECT 1 FROM name_3_{build} JOIN scope_3_{build} ON scope = id WHERE text = :stream AND first_index < :size;

-- name: scopes
SELECT text FROM scope_3_{build} JOIN name_3_{build} ON id = scope WHERE first_index < :size ORDER BY text;

-- name: deciding
-- No row where no entry is about the pipeline and stage; else one without an entry, and these.
-- Of each lane the entry that decides it at T among the first K: the greatest known change, one probe,
-- if it had taken effect by then; else the greatest of those that had, passing over late arrivals that
-- were recorded after K. Beside it, of all changes, the first that took effect after T. Then whatever
-- is always read: what cannot be read, and what could not be indexed.
-- Then the beginnings of what may be open: because its first end takes effect after T (in each bucket
-- only what began less than its width before T), or because that end was recorded after K (likewise in
-- entries). And all known ends of the same subjects.
WITH RECURSIVE bucket (bucket, width) AS (
    VALUES (63, 1 << 62), (0, 1)
    UNION ALL
    SELECT bucket + 1, width << 1 FROM bucket WHERE bucket < 61
), begun (entry, subject) AS MATERIALIZED (
    SELECT s.entry, s.subject FROM json_each(:audiences) a
    CROSS JOIN name_3_{build} n ON n.text = a.value CROSS JOIN bucket b
    CROSS JOIN span_3_{build} s ON s.audience = n.id AND s.time_bucket = b.bucket
    WHERE s.effective_at > :at - b.width AND s.effective_at <= :at AND s.entry < :known
    UNION ALL
    SELECT s.entry, s.subject FROM json_each(:audiences) a
    CROSS JOIN name_3_{build} n ON n.text = a.value CROSS JOIN bucket b
    CROSS JOIN span_3_{build} s ON s.audience = n.id AND s.entry_bucket = b.bucket
    WHERE s.entry >= :known - b.width AND s.entry < :known AND s.effective_at <= :at
), scope AS MATERIALIZED (
    SELECT 1 FROM name_3_{build} JOIN scope_3_{build} ON scope = id WHERE text = :stream AND first_index < :size
)
SELECT NULL, NULL FROM scope
UNION ALL
SELECT iif(k.top_effective_at <= :at, k.top_entry, (
           SELECT entry FROM change_3_{build} WHERE lane = l.lane AND effective_at <= :at AND entry < :known
           ORDER BY effective_at DESC, entry DESC LIMIT 1)),
       iif(l.part = 'change' AND k.top_effective_at > :at, (
           SELECT entry FROM change_3_{build} WHERE lane = l.lane AND effective_at > :at AND entry < :known
           ORDER BY effective_at, entry LIMIT 1), NULL)
FROM scope
CROSS JOIN name_3_{build} n
CROSS JOIN lane_3_{build} l ON l.audience = n.id
CROSS JOIN known_3_{build} k ON k.lane = l.lane
    AND k.entry = (SELECT max(entry) FROM known_3_{build} WHERE lane = l.lane AND entry < :known)
WHERE n.text = :audience
UNION ALL
SELECT entry, NULL FROM scope CROSS JOIN name_3_{build} n CROSS JOIN unreadable_3_{build} u ON u.scope = n.id
WHERE text = :stream AND entry < :known
UNION ALL
SELECT entry, NULL FROM scope CROSS JOIN dead_letter_3_{build} WHERE entry < :known
UNION ALL
SELECT entry, NULL FROM scope CROSS JOIN begun
UNION ALL
SELECT e.entry, NULL FROM scope CROSS JOIN begun CROSS JOIN end_3_{build} e ON e.subject = begun.subject
WHERE e.entry < :known;

-- name: latest
SELECT iif(k.top_effective_at <= :at, k.top_entry, (
           SELECT entry FROM change_3_{build} WHERE lane = :lane AND effective_at <= :at AND entry < :known
           ORDER BY effective_at DESC, entry DESC LIMIT 1))
FROM known_3_{build} k WHERE k.lane = :lane AND k.entry < :known ORDER BY k.entry DESC LIMIT 1;

-- name: records
SELECT a.entry FROM json_each(:refs) r CROSS JOIN name_3_{build} n ON n.text = r.value
CROSS JOIN asset_3_{build} a ON a.ref = n.id WHERE a.entry < :known
UNION ALL
SELECT w.entry FROM json_each(:refs) r CROSS JOIN name_3_{build} n ON n.text = r.value
CROSS JOIN withdrawal_3_{build} w ON w.ref = n.id WHERE w.entry < :known;

-- name: lanes
SELECT lane, part, name FROM name_3_{build} JOIN lane_3_{build} ON audience = id WHERE text = :audience;

-- name: changes_in_order
SELECT effective_at, entry FROM change_3_{build}
WHERE lane = :lane AND (effective_at, entry) > (:after_at, :after_entry) AND effective_at <= :at AND entry < :known
ORDER BY effective_at, entry LIMIT :page;

-- name: changes_by_time
SELECT entry FROM change_3_{build}
WHERE lane = :lane AND effective_at > :start AND effective_at <= :stop AND entry < :known
ORDER BY entry DESC LIMIT :page;

-- name: changes_by_entry
SELECT entry FROM known_3_{build} WHERE lane = :lane AND entry >= :start AND entry < :stop
ORDER BY entry DESC LIMIT :page;

-- name: intervals
-- The changes that hold a version, each until the next change of its lane; not those about whose very
-- instant a greater index says something else.
SELECT a.text, l.part, l.name, u.entry, u.effective_at, (
    SELECT c.effective_at FROM change_3_{build} c
    WHERE c.lane = u.lane AND c.effective_at > u.effective_at AND c.entry < :known
    ORDER BY c.effective_at, c.entry LIMIT 1)
FROM name_3_{build} n CROSS JOIN use_3_{build} u ON u.ref = n.id
JOIN lane_3_{build} l ON l.lane = u.lane JOIN name_3_{build} a ON a.id = l.audience
WHERE n.text = :ref AND u.effective_at <= :at AND u.entry < :known AND NOT EXISTS (
    SELECT 1 FROM change_3_{build} c
    WHERE c.lane = u.lane AND c.effective_at = u.effective_at AND c.entry > u.entry AND c.entry < :known)
ORDER BY u.lane, u.effective_at, u.entry LIMIT :page;

-- name: parents
SELECT n.text, p.entry, p.effective_at FROM name_3_{build} c
CROSS JOIN parent_3_{build} p ON p.child = c.id JOIN name_3_{build} n ON n.id = p.parent
WHERE c.text = :ref AND p.effective_at <= :at AND p.entry < :known ORDER BY n.text, p.entry LIMIT :page;

-- name: children
SELECT n.text, p.entry, p.effective_at FROM name_3_{build} c
CROSS JOIN parent_3_{build} p ON p.parent = c.id JOIN name_3_{build} n ON n.id = p.child
WHERE c.text = :ref AND p.effective_at <= :at AND p.entry < :known ORDER BY n.text, p.entry LIMIT :page;

-- name: run_sides
-- What lies on the other side of the runs that touch a version: the inputs of those that made it
-- (near 1, far 0), the outputs of those that read it (near 0, far 1).
SELECT other.text, run.text, max(far.entry, near.entry), max(far.effective_at, near.effective_at)
FROM name_3_{build} n
CROSS JOIN run_asset_3_{build} near ON near.ref = n.id AND near.role = :near
JOIN run_asset_3_{build} far ON far.run = near.run AND far.role = :far
JOIN name_3_{build} other ON other.id = far.ref
JOIN name_3_{build} run ON run.id = near.run
WHERE n.text = :ref AND near.effective_at <= :at AND near.entry < :known
  AND far.effective_at <= :at AND far.entry < :known
ORDER BY other.text, run.text, 3 LIMIT :page;

-- name: runs_of
SELECT run.text, r.role, r.entry FROM name_3_{build} n
CROSS JOIN run_asset_3_{build} r ON r.ref = n.id JOIN name_3_{build} run ON run.id = r.run
WHERE n.text = :ref AND r.effective_at <= :at AND r.entry < :known ORDER BY r.entry LIMIT :page;

-- name: is_named
-- Whether a known entry records or withdraws the version, uses it, or says what it was made from.
SELECT 1 FROM name_3_{build} n WHERE n.text = :ref AND (
    EXISTS (SELECT 1 FROM asset_3_{build} WHERE ref = n.id AND entry < :known)
    OR EXISTS (SELECT 1 FROM withdrawal_3_{build} WHERE ref = n.id AND entry < :known)
    OR EXISTS (SELECT 1 FROM use_3_{build} WHERE ref = n.id AND effective_at <= :at AND entry < :known)
    OR EXISTS (SELECT 1 FROM run_asset_3_{build} WHERE ref = n.id AND effective_at <= :at AND entry < :known)
    OR EXISTS (SELECT 1 FROM parent_3_{build} WHERE child = n.id AND effective_at <= :at AND entry < :known)
    OR EXISTS (SELECT 1 FROM parent_3_{build} WHERE parent = n.id AND effective_at <= :at AND entry < :known));

-- name: name_ids
SELECT n.text, n.id FROM json_each(:texts) t CROSS JOIN name_3_{build} n ON n.text = t.value;

-- name: greatest_ids
SELECT (SELECT coalesce(max(id), 0) FROM name_3_{build}), (SELECT coalesce(max(lane), 0) FROM lane_3_{build});

-- name: lanes_of
SELECT l.audience, l.part, l.name, l.lane FROM json_each(:audiences) a
CROSS JOIN lane_3_{build} l ON l.audience = a.value;

-- name: tops
-- The greatest change of each lane so far.
SELECT k.lane, k.top_effective_at, k.top_entry FROM json_each(:lanes) l
CROSS JOIN known_3_{build} k ON k.lane = l.value
    AND k.entry = (SELECT max(entry) FROM known_3_{build} WHERE lane = l.value);

-- name: first_ends
SELECT e.subject, e.entry, e.effective_at FROM json_each(:subjects) s
CROSS JOIN end_3_{build} e ON e.subject = s.value
    AND e.entry = (SELECT min(entry) FROM end_3_{build} WHERE subject = s.value);

-- name: spans_of
SELECT p.subject, p.entry, p.effective_at FROM json_each(:subjects) s
CROSS JOIN span_3_{build} p ON p.subject = s.value;

-- name: add_name
INSERT INTO name_3_{build} (id, text) VALUES (?, ?);

-- name: add_scope
INSERT OR IGNORE INTO scope_3_{build} (scope, first_index) VALUES (?, ?);

-- name: add_lane
INSERT INTO lane_3_{build} (lane, audience, part, name) VALUES (?, ?, ?, ?);

-- name: add_change
INSERT INTO change_3_{build} (lane, effective_at, entry) VALUES (?, ?, ?);

-- name: add_known
INSERT INTO known_3_{build} (lane, entry, top_effective_at, top_entry) VALUES (?, ?, ?, ?);

-- name: add_unreadable
INSERT INTO unreadable_3_{build} (scope, entry) VALUES (?, ?);

-- name: add_use
INSERT INTO use_3_{build} (ref, lane, effective_at, entry) VALUES (?, ?, ?, ?);

-- name: add_span
INSERT INTO span_3_{build} (entry, audience, subject, effective_at, time_bucket, entry_bucket)
VALUES (?, ?, ?, ?, ?, ?);

-- name: add_end
INSERT INTO end_3_{build} (subject, entry, effective_at) VALUES (?, ?, ?);

-- name: add_asset
INSERT OR IGNORE INTO asset_3_{build} (ref, digest, entry) VALUES (?, ?, ?);

-- name: add_withdrawal
INSERT INTO withdrawal_3_{build} (ref, entry) VALUES (?, ?);

-- name: add_parent
INSERT INTO parent_3_{build} (child, parent, entry, effective_at) VALUES (?, ?, ?, ?);

-- name: add_run_asset
INSERT INTO run_asset_3_{build} (run, role, ref, entry, effective_at) VALUES (?, ?, ?, ?, ?);

-- name: close_span
UPDATE span_3_{build} SET time_bucket = ?, entry_bucket = ? WHERE entry = ?;

-- name: add_dead_letter
INSERT OR REPLACE INTO dead_letter_3_{build} (entry, reason) VALUES (?, ?);

-- name: dead_letters
SELECT entry, reason FROM dead_letter_3_{build} ORDER BY entry LIMIT :page;

-- name: forget_dead_letters
-- Those that held the index up and were applied after all.
DELETE FROM dead_letter_3_{build} WHERE entry >= :size;

-- name: add_snapshot
INSERT OR REPLACE INTO snapshot_3_{build} (start_size, tree_size, digest, body) VALUES (?, ?, ?, ?);

-- name: snapshot_from
SELECT tree_size, digest, body FROM snapshot_3_{build} WHERE start_size = :start_size;

-- name: newest_snapshot
SELECT max(tree_size) FROM snapshot_3_{build};
