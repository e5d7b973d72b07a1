-- Every statement that the SQLite store runs, by name. `?` are bound in the order of the text.

-- name: schema_objects
-- What the file says its schema is; the automatic indexes have no text, triggers no page.
SELECT type, name, tbl_name, sql, iif(type = 'trigger', rootpage, NULL) FROM sqlite_schema ORDER BY type, name;

-- name: head
SELECT origin, size, root, last_leaf, recorded_at, edge, checkpoint FROM head WHERE id = 1;

-- name: insert_head
INSERT INTO head (id, origin, size, root, last_leaf, recorded_at, edge, checkpoint)
VALUES (1, ?, ?, ?, ?, ?, ?, ?);

-- name: replace_head
-- Compare and swap: no row is changed where another append came between.
UPDATE head SET size = ?, root = ?, last_leaf = ?, recorded_at = ?, edge = ?, checkpoint = ?
WHERE id = 1 AND size = ? AND root = ? AND origin = ?;

-- name: insert_entries
-- The store repeats the group of values, so that many rows cost one call.
INSERT INTO entry
    (idx, recorded_at, actor, stream, type, version, commitment, salt, payload, leaf_hash)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: insert_tile
INSERT INTO tile (level, number, hashes) VALUES (?, ?, ?);

-- name: insert_key_use
INSERT INTO key_use (key, body_digest, first_index, count, tree_size) VALUES (?, ?, ?, ?, ?);

-- name: rows
SELECT idx, recorded_at, actor, stream, type, version, commitment, salt, payload, leaf_hash
FROM entry WHERE idx >= ? AND idx < ? ORDER BY idx LIMIT ?;

-- name: rows_at
SELECT idx, recorded_at, actor, stream, type, version, commitment, salt, payload, leaf_hash
FROM entry WHERE idx IN (SELECT value FROM json_each(?)) ORDER BY idx;

-- name: stream_rows
SELECT idx, recorded_at, actor, stream, type, version, commitment, salt, payload, leaf_hash
FROM entry WHERE stream = ? AND version > ? ORDER BY version LIMIT ?;

-- name: stream_version
SELECT coalesce(max(version), 0) FROM entry WHERE stream = ?;

-- name: stream_versions
-- One row whatever the number of names: one call, one step.
SELECT json_group_object(
    wanted.value, (SELECT coalesce(max(version), 0) FROM entry WHERE stream = wanted.value)
) FROM json_each(?) AS wanted;

-- name: streams_from
-- A skip scan over the index from a position on, as long as the prefix lasts: as many steps as there
-- are streams, not entries.
WITH RECURSIVE name (stream) AS (
    SELECT (SELECT min(stream) FROM entry WHERE stream >= ?1)
    UNION ALL
    SELECT (SELECT min(stream) FROM entry WHERE stream > name.stream)
    FROM name WHERE substr(name.stream, 1, length(?2)) = ?2
)
SELECT stream FROM name WHERE substr(stream, 1, length(?2)) = ?2 LIMIT ?3;

-- name: stream_spans
-- In the order of the index over (stream, version), which alone answers it.
SELECT stream, count(*), min(version), max(version) FROM entry
WHERE stream > ? AND idx < ? GROUP BY stream ORDER BY stream LIMIT ?;

-- name: leaf_hashes
SELECT leaf_hash FROM entry WHERE idx >= ? AND idx < ? ORDER BY idx;

-- name: recorded_at
SELECT recorded_at FROM entry WHERE idx = ?;

-- name: tile
SELECT hashes FROM tile WHERE level = ? AND number = ?;

-- name: tiles_after
SELECT level, number, hashes FROM tile WHERE (level, number) > (?, ?)
ORDER BY level, number LIMIT ?;

-- name: key_use
SELECT key, body_digest, first_index, count, tree_size FROM key_use WHERE key = ?;

-- name: key_uses
SELECT key, body_digest, first_index, count, tree_size FROM key_use
WHERE key IN (SELECT value FROM json_each(?));

-- name: key_uses_after
SELECT key, body_digest, first_index, count, tree_size FROM key_use WHERE key > ?
ORDER BY key LIMIT ?;

-- name: tracked
SELECT name, position FROM follower WHERE name = ?;

-- name: tracked_among
SELECT name, position FROM follower WHERE name IN (SELECT value FROM json_each(?));

-- name: track
INSERT INTO follower (name, position) VALUES (?, ?)
ON CONFLICT (name) DO UPDATE SET position = excluded.position;
