-- The statements of projections/index.py by name. T is an effective time, K the number of entries known.

-- name: position
SELECT origin, size, leaf_hash FROM position_1;

-- name: set_position
INSERT OR REPLACE INTO position_1 (one, origin, size, leaf_hash) VALUES (1, ?, ?, ?);

-- name: name_id
SELECT id FROM name_1 WHERE text = ?;

-- name: add_name
INSERT INTO name_1 (text) VALUES (?);

-- name: name_text
SELECT text FROM name_1 WHERE id = ?;

-- name: add_bucket
INSERT OR IGNORE INTO bucket_1 (bucket, width) VALUES (?, ?);

-- name: add_scope
INSERT OR IGNORE INTO scope_1 (scope, first_index) VALUES (?, ?);

-- name: knows_scope
SELECT 1 FROM scope_1 JOIN name_1 ON id = scope WHERE text = ? AND first_index < ?;

-- name: scopes
SELECT text FROM scope_1 JOIN name_1 ON id = scope WHERE first_index < ? ORDER BY text;

-- name: lane_id
SELECT lane FROM lane_1 WHERE audience = ? AND part = ? AND name = ?;

-- name: add_lane
INSERT INTO lane_1 (audience, part, name) VALUES (?, ?, ?);

-- name: lanes
SELECT lane, part, name FROM lane_1 WHERE audience = ?;

-- name: lane
SELECT text, part, name FROM lane_1 JOIN name_1 ON id = audience WHERE lane = ?;

-- name: add_change
INSERT INTO change_1 (lane, effective_at, entry) VALUES (?, ?, ?);

-- name: add_known
INSERT INTO known_1 (lane, entry, top_effective_at, top_entry) VALUES (?, ?, ?, ?);

-- name: top
-- The greatest change of a lane among the first K entries: one probe.
SELECT top_effective_at, top_entry FROM known_1 WHERE lane = ? AND entry < ?
ORDER BY entry DESC LIMIT 1;

-- name: latest
-- The greatest change of a lane in effect at T among the first K entries. Passes over late arrivals
-- that were recorded after K.
SELECT entry FROM change_1 WHERE lane = ? AND effective_at <= ? AND entry < ?
ORDER BY effective_at DESC, entry DESC LIMIT 1;

-- name: earliest_after
SELECT entry FROM change_1 WHERE lane = ? AND effective_at > ? AND entry < ?
ORDER BY effective_at, entry LIMIT 1;

-- name: changes_in_order
SELECT effective_at, entry FROM change_1
WHERE lane = ? AND (effective_at, entry) > (?, ?) AND effective_at <= ? AND entry < ?
ORDER BY effective_at, entry LIMIT ?;

-- name: changes_by_time
SELECT entry FROM change_1 WHERE lane = ? AND effective_at > ? AND effective_at <= ? AND entry < ?
ORDER BY entry DESC LIMIT ?;

-- name: changes_by_entry
SELECT entry FROM known_1 WHERE lane = ? AND entry >= ? AND entry < ? ORDER BY entry DESC LIMIT ?;

-- name: next_change
SELECT effective_at, entry FROM change_1
WHERE lane = ? AND effective_at > ? AND entry < ? ORDER BY effective_at, entry LIMIT 1;

-- name: is_superseded
-- Whether a greater index says something else about the same instant.
SELECT 1 FROM change_1 WHERE lane = ? AND effective_at = ? AND entry > ? AND entry < ? LIMIT 1;

-- name: add_unreadable
INSERT INTO unreadable_1 (scope, entry) VALUES (?, ?);

-- name: unreadable
SELECT entry FROM unreadable_1 JOIN name_1 ON id = scope WHERE text = ? AND entry < ?;

-- name: add_use
INSERT INTO use_1 (ref, lane, effective_at, entry) VALUES (?, ?, ?, ?);

-- name: uses
SELECT lane, effective_at, entry FROM use_1 WHERE ref = ? AND effective_at <= ? AND entry < ?
ORDER BY lane, effective_at, entry LIMIT ?;

-- name: add_span
INSERT INTO span_1 (entry, audience, subject, effective_at, time_bucket, entry_bucket)
VALUES (?, ?, ?, ?, ?, ?);

-- name: spans_of_subject
SELECT entry, effective_at FROM span_1 WHERE subject = ?;

-- name: close_span
UPDATE span_1 SET time_bucket = ?, entry_bucket = ? WHERE entry = ?;

-- name: add_end
INSERT INTO end_1 (subject, entry, effective_at) VALUES (?, ?, ?);

-- name: first_end
SELECT entry, effective_at FROM end_1 WHERE subject = ? ORDER BY entry LIMIT 1;

-- name: ends
SELECT entry FROM end_1 WHERE subject = ? AND entry < ?;

-- name: spans_across_time
-- Those that may be open because their first end takes effect after T: in each bucket only what began
-- less than its width before T.
SELECT entry, subject FROM bucket_1 CROSS JOIN span_1
WHERE audience = :audience AND time_bucket = bucket
  AND span_1.effective_at > :at - width AND span_1.effective_at <= :at AND entry < :known;

-- name: spans_across_entries
-- Those that may be open because their first end was recorded after K.
SELECT entry, subject FROM bucket_1 CROSS JOIN span_1
WHERE audience = :audience AND entry_bucket = bucket
  AND entry >= :known - width AND entry < :known AND span_1.effective_at <= :at;

-- name: add_asset
INSERT OR IGNORE INTO asset_1 (ref, digest, entry) VALUES (?, ?, ?);

-- name: assets
SELECT entry FROM asset_1 WHERE ref = ? AND entry < ?;

-- name: add_withdrawal
INSERT INTO withdrawal_1 (ref, entry) VALUES (?, ?);

-- name: withdrawals
SELECT entry FROM withdrawal_1 WHERE ref = ? AND entry < ?;

-- name: add_parent
INSERT OR IGNORE INTO parent_1 (child, parent, entry, effective_at) VALUES (?, ?, ?, ?);

-- name: add_run_asset
INSERT OR IGNORE INTO run_asset_1 (run, role, ref, entry, effective_at) VALUES (?, ?, ?, ?, ?);

-- name: parents
SELECT n.text, p.entry, p.effective_at FROM parent_1 p JOIN name_1 n ON n.id = p.parent
WHERE p.child = ? AND p.effective_at <= ? AND p.entry < ? ORDER BY n.text, p.entry LIMIT ?;

-- name: children
SELECT n.text, p.entry, p.effective_at FROM parent_1 p JOIN name_1 n ON n.id = p.child
WHERE p.parent = ? AND p.effective_at <= ? AND p.entry < ? ORDER BY n.text, p.entry LIMIT ?;

-- name: run_sides
-- What lies on the other side of the runs that touch a version: the inputs of those that made it
-- (near 1, far 0), the outputs of those that read it (near 0, far 1).
SELECT other.text, run.text, max(far.entry, near.entry), max(far.effective_at, near.effective_at)
FROM run_asset_1 near
JOIN run_asset_1 far ON far.run = near.run AND far.role = :far
JOIN name_1 other ON other.id = far.ref
JOIN name_1 run ON run.id = near.run
WHERE near.ref = :ref AND near.role = :near
  AND near.effective_at <= :at AND near.entry < :known
  AND far.effective_at <= :at AND far.entry < :known
ORDER BY other.text, run.text, 3 LIMIT :limit;

-- name: runs_of
SELECT n.text, r.role, r.entry FROM run_asset_1 r JOIN name_1 n ON n.id = r.run
WHERE r.ref = ? AND r.effective_at <= ? AND r.entry < ? ORDER BY r.entry LIMIT ?;
