-- Every statement that the PostgreSQL store runs, by name. Values are bound in the order of the text.

-- name: server
-- What durability hangs on, and the server's version.
SELECT current_setting('server_version_num')::integer, current_setting('server_version'),
    current_setting('fsync'), current_setting('full_page_writes'), current_setting('data_checksums'),
    current_setting('synchronous_commit'), pg_is_in_recovery();

-- name: role
-- What the session could do that no program of a ledger needs: a reason a line. `asof` may not be there yet.
SELECT reason FROM (
    SELECT 1 AS place, 'it is a superuser' AS reason FROM pg_roles
        WHERE rolname IN (session_user, current_user) AND rolsuper
    UNION SELECT 2, 'it may bypass row security' FROM pg_roles
        WHERE rolname IN (session_user, current_user) AND rolbypassrls
    UNION SELECT 3, 'it may replicate, and so read everything' FROM pg_roles
        WHERE rolname IN (session_user, current_user) AND rolreplication
    UNION SELECT 4, 'it may create roles' FROM pg_roles
        WHERE rolname IN (session_user, current_user) AND rolcreaterole
    UNION SELECT 5, 'it may create databases' FROM pg_roles
        WHERE rolname IN (session_user, current_user) AND rolcreatedb
    UNION SELECT 6, 'it is a member of ' || r.rolname FROM pg_roles AS r
        WHERE (r.rolname = 'asof_owner' OR r.rolname IN (
            'pg_write_all_data', 'pg_write_server_files', 'pg_execute_server_program', 'pg_read_server_files',
            'pg_database_owner', 'pg_maintain'
        )) AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = session_user)
        AND pg_has_role(session_user, r.oid, 'MEMBER')
    UNION SELECT 7, 'it has the right to ' || p.deed || ' ' || c.relname
        FROM pg_class AS c
        CROSS JOIN unnest(ARRAY['UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER']) AS p (deed)
        WHERE c.relnamespace = to_regnamespace('asof') AND c.relkind = 'r'
        AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = session_user)
        AND has_table_privilege(session_user, c.oid, p.deed)
) AS found ORDER BY place, reason;

-- name: may_append
SELECT has_table_privilege('asof.entry', 'INSERT');

-- name: migrations
SELECT number, name, checksum FROM asof.migration ORDER BY number;

-- name: ledger_id
SELECT id FROM asof.ledger WHERE origin = %s;

-- name: origins
SELECT origin FROM asof.ledger ORDER BY id;

-- name: begin_ledger
SELECT asof.begin_ledger(%s, %s, %s, %s, %s, %s, %s);

-- name: lock_head
SELECT origin, size, root, last_leaf, recorded_at, edge, checkpoint, missing
FROM asof.lock_head(%s, %s, %s);

-- name: head
SELECT origin, size, root, last_leaf, recorded_at, edge, checkpoint FROM asof.ledger WHERE id = %s;

-- name: append
SELECT asof.append(
    %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s,
    %s, %s, %s, %s, %s, %s, %s, %s, %s
);

-- name: copy_entries
COPY asof.entry (idx, recorded_at, stream_number, ledger, version, commitment, leaf_hash, actor, type, salt, payload)
FROM STDIN WITH (FORMAT binary);

-- name: advance
SELECT asof.advance(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s);

-- name: track
SELECT asof.track(%s, %s, %s);

-- name: tracked
SELECT position FROM asof.follower WHERE ledger = %s AND name = %s;

-- name: tracked_among
SELECT name, position FROM asof.follower WHERE ledger = %s AND name = ANY(%s);

-- name: stream_versions
-- Of those streams that there are, with their numbers.
SELECT s.name, s.number, coalesce((
    SELECT version FROM asof.entry AS e
    WHERE e.ledger = s.ledger AND e.stream_number = s.number ORDER BY version DESC LIMIT 1
), 0)
FROM asof.stream AS s WHERE s.ledger = %s AND s.name = ANY(%s);

-- name: key_uses
SELECT key, body_digest, first_index, count, tree_size FROM asof.key_use WHERE ledger = %s AND key = ANY(%s);

-- name: rows
SELECT idx, recorded_at, actor, stream_number, type, version, commitment, salt, payload, leaf_hash
FROM asof.entry WHERE ledger = %s AND idx >= %s AND idx < %s ORDER BY idx LIMIT %s;

-- name: names
SELECT number, name FROM asof.stream WHERE ledger = %s AND number = ANY(%s::bigint[]);

-- name: rows_at
-- A row whose stream has no name is a row all the same: its name is NULL. LIMIT 1 keeps the planner from reading all the
-- names there are for a handful of rows.
SELECT idx, recorded_at, actor, name, type, version, commitment, salt, payload, leaf_hash
FROM asof.entry AS e LEFT JOIN LATERAL (
    SELECT name FROM asof.stream AS s WHERE s.ledger = e.ledger AND s.number = e.stream_number LIMIT 1
) AS named ON true
WHERE e.ledger = %s AND idx = ANY(%s::bigint[]) ORDER BY idx;

-- name: stream_rows
-- The number is found first, so that the rows come in the order of the index.
SELECT idx, recorded_at, actor, %(stream)s, type, version, commitment, salt, payload, leaf_hash
FROM asof.entry WHERE ledger = %(ledger)s AND stream_number = (
    SELECT number FROM asof.stream WHERE ledger = %(ledger)s AND name = %(stream)s
) AND version > %(after)s ORDER BY version LIMIT %(most)s;

-- name: stream_version
SELECT coalesce(max(version), 0) FROM asof.entry WHERE ledger = %(ledger)s AND stream_number = (
    SELECT number FROM asof.stream WHERE ledger = %(ledger)s AND name = %(stream)s
);

-- name: streams_from
-- From a position on, as long as the prefix lasts: a piece of names is looked at, whatever there is behind it.
SELECT name FROM (
    SELECT name FROM asof.stream WHERE ledger = %s AND name >= %s ORDER BY name LIMIT %s
) AS piece WHERE starts_with(name, %s) ORDER BY name;

-- name: stream_spans
SELECT coalesce(name, 'the stream of entry ' || stream_number || ', which has no name'), entries, low, high FROM (
    SELECT stream_number, count(*) AS entries, min(version) AS low, max(version) AS high FROM asof.entry
    WHERE ledger = %(ledger)s AND idx < %(size)s GROUP BY stream_number
) AS span LEFT JOIN asof.stream AS s ON s.ledger = %(ledger)s AND s.number = stream_number ORDER BY name;

-- name: patience
-- For an audit's questions, which read everything.
SELECT set_config('statement_timeout', '0', true), set_config('enable_seqscan', 'on', true);

-- name: one_moment
-- What is compared is read as of one moment: others append meanwhile.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;

-- name: by_table
SELECT set_config('enable_indexscan', 'off', true), set_config('enable_indexonlyscan', 'off', true),
    set_config('enable_bitmapscan', 'off', true);

-- name: by_index
-- With nothing to sort with, what is asked for in an order is read by the index that has that order.
SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
    set_config('enable_sort', 'off', true), set_config('enable_incremental_sort', 'off', true);

-- name: by_any
SELECT set_config(name, 'on', true) FROM pg_settings WHERE name IN (
    'enable_seqscan', 'enable_indexscan', 'enable_indexonlyscan', 'enable_bitmapscan', 'enable_sort',
    'enable_incremental_sort'
);

-- name: leaf_hashes
SELECT coalesce(string_agg(leaf_hash, ''::bytea ORDER BY idx), ''::bytea) FROM asof.entry
WHERE ledger = %s AND idx >= %s AND idx < %s;

-- name: index_at
-- A binary search in one round trip; it ends with low < high where an entry is missing.
WITH RECURSIVE search (ledger, low, high) AS (
    SELECT id, 0::bigint, size FROM asof.ledger WHERE id = %s
    UNION ALL
    SELECT s.ledger, CASE WHEN e.recorded_at <= %s THEN e.idx + 1 ELSE s.low END,
        CASE WHEN e.recorded_at <= %s THEN s.high ELSE e.idx END
    FROM search AS s JOIN asof.entry AS e ON e.ledger = s.ledger AND e.idx = (s.low + s.high) / 2
    WHERE s.low < s.high
)
SELECT low, high FROM search ORDER BY high - low LIMIT 1;

-- name: tile
SELECT hashes FROM asof.tile WHERE ledger = %s AND level = %s AND number = %s;

-- name: tiles_from
SELECT number, hashes FROM asof.tile WHERE ledger = %s AND level = %s AND number >= %s ORDER BY number LIMIT %s;

-- name: tiles_after
SELECT level, number, hashes FROM asof.tile WHERE ledger = %s AND (level, number) > (%s, %s)
ORDER BY level, number LIMIT %s;

-- name: key_use
SELECT key, body_digest, first_index, count, tree_size FROM asof.key_use WHERE ledger = %s AND key = %s;

-- name: key_uses_after
SELECT key, body_digest, first_index, count, tree_size FROM asof.key_use
WHERE ledger = %s AND key > %s ORDER BY key LIMIT %s;

-- name: damage
-- What the server itself knows to be wrong: pages whose checksum failed, indexes that are not valid.
SELECT 'the server counted ' || checksum_failures || ' pages with a wrong checksum in this database'
FROM pg_stat_database WHERE datname = current_database() AND checksum_failures > 0
UNION ALL
SELECT 'the index ' || c.relname || ' is not valid' FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
WHERE c.relnamespace = 'asof'::regnamespace AND NOT (i.indisvalid AND i.indisready AND i.indislive);

-- name: versions_by_table
-- Sums that do not depend on the order: once by the table, once by the index.
SELECT count(*), coalesce(sum(hashint8extended(stream_number, version)), 0) FROM asof.entry WHERE ledger = %s;

-- name: versions_by_index
SELECT count(*), coalesce(sum(hashint8extended(stream_number, version)), 0) FROM (
    SELECT stream_number, version FROM asof.entry WHERE ledger = %s ORDER BY stream_number, version OFFSET 0
) AS ordered;

-- name: names_by_table
SELECT count(*), coalesce(sum(hashtextextended(name, 0)), 0) FROM asof.stream WHERE ledger = %s;

-- name: names_by_index
SELECT count(*), coalesce(sum(hashtextextended(name, 0)), 0) FROM (
    SELECT name FROM asof.stream WHERE ledger = %s ORDER BY name OFFSET 0
) AS ordered;

-- name: numbers_by_table
SELECT count(*), coalesce(sum(hashint8extended(number, 0)), 0) FROM asof.stream WHERE ledger = %s;

-- name: numbers_by_index
SELECT count(*), coalesce(sum(hashint8extended(number, 0)), 0) FROM (
    SELECT number FROM asof.stream WHERE ledger = %s ORDER BY number OFFSET 0
) AS ordered;

-- name: misnamed_streams
-- The number of a stream is the index of its first entry. (An entry whose stream has no name shows in the rows.)
SELECT format('the stream %%s is numbered %%s, which is not its first entry', quote_literal(s.name), s.number)
FROM asof.stream AS s LEFT JOIN asof.entry AS e ON e.ledger = s.ledger AND e.idx = s.number
WHERE s.ledger = %(ledger)s AND (e.stream_number = s.number AND e.version = 1) IS NOT TRUE ORDER BY s.number LIMIT 5;

-- name: notify
SELECT pg_notify('asof_appended', %s);

-- name: wait_for_standby
-- A commit that writes nothing but itself, and is confirmed when everything before it is. Without a synchronous
-- standby there is nothing to wait for: what is visible is on the disk.
SELECT pg_logical_emit_message(true, 'asof', '') WHERE current_setting('synchronous_standby_names') <> '';
