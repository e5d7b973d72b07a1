-- The streams of a ledger by number: an entry holds eight bytes instead of a name, and so does the index over streams
-- and versions (docs/adr/0105). The number of a stream is the index of its first entry.
--
-- Everything is written anew, in one transaction: nobody reads or appends meanwhile, and whoever dies here leaves what
-- was there before. A program that was open before this finds its columns and functions gone.

LOCK TABLE asof.ledger, asof.entry IN ACCESS EXCLUSIVE MODE;

-- What is damaged is not carried over: it would be an entry without a stream, or a number that is no first entry.
DO $$
DECLARE
    lost record;
BEGIN
    SELECT e.ledger, e.idx INTO lost FROM asof.entry AS e
    LEFT JOIN asof.entry AS f ON f.ledger = e.ledger AND f.stream = e.stream AND f.version = 1
    WHERE f.idx IS NULL OR f.idx > e.idx OR e.idx < 0 ORDER BY e.ledger, e.idx LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'asof: entry % of ledger % has no first entry of its stream before it; verify with the asof that '
            'wrote it, and mend it before migrating', lost.idx, lost.ledger USING ERRCODE = 'data_corrupted';
    END IF;
END $$;

CREATE TABLE asof.stream (
    number bigint NOT NULL CHECK (number >= 0),
    ledger integer NOT NULL,
    name text COLLATE "C" NOT NULL,
    PRIMARY KEY (ledger, number),
    UNIQUE (ledger, name)
);
INSERT INTO asof.stream (number, ledger, name)
SELECT idx, ledger, stream FROM asof.entry WHERE version = 1 ORDER BY ledger, idx;
ANALYZE asof.stream;

-- As before, but for `stream_number`; not called `stream`, so that a reader that knows names there fails instead of
-- taking a number for one.
CREATE TABLE asof.numbered (
    idx bigint NOT NULL CONSTRAINT entry_idx_check CHECK (idx >= 0),
    recorded_at bigint NOT NULL,
    stream_number bigint NOT NULL,
    ledger integer NOT NULL,
    version integer NOT NULL CONSTRAINT entry_version_check CHECK (version > 0),
    actor text COLLATE "C" NOT NULL,
    type text COLLATE "C" NOT NULL,
    commitment bytea NOT NULL CONSTRAINT entry_commitment_check CHECK (octet_length(commitment) = 32),
    leaf_hash bytea NOT NULL CONSTRAINT entry_leaf_hash_check CHECK (octet_length(leaf_hash) = 32),
    salt bytea,
    payload bytea,
    CONSTRAINT entry_stream_number_check CHECK (
        stream_number >= 0 AND stream_number <= idx AND (version = 1) = (stream_number = idx)
    )
);
ALTER TABLE asof.numbered ALTER COLUMN payload SET STORAGE EXTERNAL;
-- A lookup for each row rather than a join: rows stay in the order in which they lie.
INSERT INTO asof.numbered
    (idx, recorded_at, stream_number, ledger, version, actor, type, commitment, leaf_hash, salt, payload)
SELECT e.idx, e.recorded_at, (SELECT s.number FROM asof.stream AS s WHERE s.ledger = e.ledger AND s.name = e.stream),
    e.ledger, e.version, e.actor, e.type, e.commitment, e.leaf_hash, e.salt, e.payload
FROM asof.entry AS e;

DROP TABLE asof.entry;
ALTER TABLE asof.numbered RENAME TO entry;
ALTER TABLE asof.entry ADD CONSTRAINT entry_pkey PRIMARY KEY (ledger, idx);
-- Not the ledger first: before a bigint it would be padded to eight bytes, in every entry of the index.
ALTER TABLE asof.entry ADD CONSTRAINT entry_stream_number_ledger_version_key UNIQUE (stream_number, ledger, version);
ANALYZE asof.entry;

CREATE TRIGGER entry_is_not_changed BEFORE UPDATE OR DELETE ON asof.entry
FOR EACH ROW EXECUTE FUNCTION asof.refuse_change();
CREATE TRIGGER entry_is_not_truncated BEFORE TRUNCATE ON asof.entry
FOR EACH STATEMENT EXECUTE FUNCTION asof.refuse_change();
CREATE TRIGGER stream_is_not_changed BEFORE UPDATE OR DELETE ON asof.stream
FOR EACH ROW EXECUTE FUNCTION asof.refuse_change();
CREATE TRIGGER stream_is_not_truncated BEFORE TRUNCATE ON asof.stream
FOR EACH STATEMENT EXECUTE FUNCTION asof.refuse_change();
ALTER TABLE asof.entry ENABLE ALWAYS TRIGGER entry_is_not_changed, ENABLE ALWAYS TRIGGER entry_is_not_truncated;
ALTER TABLE asof.stream ENABLE ALWAYS TRIGGER stream_is_not_changed, ENABLE ALWAYS TRIGGER stream_is_not_truncated;

DROP FUNCTION asof.append(
    integer, bigint, bytea, bigint, bytea, bytea, bigint, bytea, bytea, integer[], bigint[], bytea[], text[], bytea[],
    bigint[], bigint[], bigint[], text[], bigint[], bigint[], integer[], text[], text[], text[], bytea[], bytea[],
    bytea[], bytea[]
);
DROP FUNCTION asof.advance(
    integer, bigint, bytea, bigint, bytea, bytea, bigint, bytea, bytea, integer[], bigint[], bytea[], text[], bytea[],
    bigint[], bigint[], bigint[], text[], bigint[]
);

-- Replace the head that the caller began from. False where it no longer stands: then nothing was written. A stream is
-- named with its first entry, here and never later: the writer has no other way to write a name.
CREATE FUNCTION asof.advance(
    p_ledger integer, p_from_size bigint, p_from_root bytea,
    p_size bigint, p_root bytea, p_last_leaf bytea, p_recorded_at bigint, p_edge bytea, p_checkpoint bytea,
    p_levels integer[], p_numbers bigint[], p_hashes bytea[],
    p_keys text[], p_digests bytea[], p_firsts bigint[], p_counts bigint[], p_sizes bigint[],
    p_followers text[], p_positions bigint[],
    p_names text[], p_named bigint[]
) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, asof, pg_temp AS $$
BEGIN
    UPDATE asof.ledger SET size = p_size, root = p_root, last_leaf = p_last_leaf, recorded_at = p_recorded_at,
        edge = p_edge, checkpoint = p_checkpoint
    WHERE id = p_ledger AND size = p_from_size AND root = p_from_root;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF cardinality(p_names) > 0 THEN
        IF p_from_size > ANY (p_named) OR p_size <= ANY (p_named) THEN
            RAISE EXCEPTION 'asof: a stream is named with its first entry' USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        INSERT INTO asof.stream (ledger, name, number)
        SELECT p_ledger, s.* FROM unnest(p_names, p_named) AS s;
    END IF;
    IF cardinality(p_levels) > 0 THEN
        INSERT INTO asof.tile (ledger, level, number, hashes)
        SELECT p_ledger, t.* FROM unnest(p_levels, p_numbers, p_hashes) AS t;
    END IF;
    IF cardinality(p_keys) > 0 THEN
        INSERT INTO asof.key_use (ledger, key, body_digest, first_index, count, tree_size)
        SELECT p_ledger, k.* FROM unnest(p_keys, p_digests, p_firsts, p_counts, p_sizes) AS k;
    END IF;
    IF cardinality(p_followers) > 0 THEN
        INSERT INTO asof.follower AS f (ledger, name, position)
        SELECT p_ledger, t.* FROM unnest(p_followers, p_positions) AS t
        ON CONFLICT (ledger, name) DO UPDATE SET position = excluded.position;
    END IF;
    RETURN true;
END $$;

-- A whole append in one statement: for groups of a size for which a round trip costs more than COPY saves. False, with
-- nothing written, where the head has moved since the caller read it, or a key was used before: then the caller takes
-- the lock and asks. A key that is used by another append at this moment moves the head as well.
CREATE FUNCTION asof.append(
    p_ledger integer, p_from_size bigint, p_from_root bytea,
    p_size bigint, p_root bytea, p_last_leaf bytea, p_recorded_at bigint, p_edge bytea, p_checkpoint bytea,
    p_levels integer[], p_numbers bigint[], p_hashes bytea[],
    p_keys text[], p_digests bytea[], p_firsts bigint[], p_counts bigint[], p_sizes bigint[],
    p_followers text[], p_positions bigint[],
    p_names text[], p_named bigint[],
    p_times bigint[], p_versions integer[], p_actors text[], p_streams bigint[], p_types text[],
    p_commitments bytea[], p_leaves bytea[], p_salts bytea[], p_payloads bytea[]
) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, asof, pg_temp AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'on', true)
        WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply');
    IF cardinality(p_keys) > 0 AND EXISTS (SELECT FROM asof.key_use WHERE ledger = p_ledger AND key = ANY (p_keys)) THEN
        RETURN false;
    END IF;
    IF NOT asof.advance(
        p_ledger, p_from_size, p_from_root, p_size, p_root, p_last_leaf, p_recorded_at, p_edge, p_checkpoint,
        p_levels, p_numbers, p_hashes, p_keys, p_digests, p_firsts, p_counts, p_sizes, p_followers, p_positions,
        p_names, p_named
    ) THEN
        RETURN false;
    END IF;
    INSERT INTO asof.entry
        (ledger, idx, recorded_at, version, actor, stream_number, type, commitment, leaf_hash, salt, payload)
    SELECT p_ledger, p_from_size + e.place - 1, e.at, e.version, e.actor, e.stream, e.type, e.commitment, e.leaf_hash,
        e.salt, e.payload
    FROM unnest(p_times, p_versions, p_actors, p_streams, p_types, p_commitments, p_leaves, p_salts, p_payloads)
        WITH ORDINALITY
        AS e (at, version, actor, stream, type, commitment, leaf_hash, salt, payload, place);
    RETURN true;
END $$;

REVOKE ALL ON FUNCTION
    asof.advance(
        integer, bigint, bytea, bigint, bytea, bytea, bigint, bytea, bytea, integer[], bigint[], bytea[], text[], bytea[],
        bigint[], bigint[], bigint[], text[], bigint[], text[], bigint[]
    ),
    asof.append(
        integer, bigint, bytea, bigint, bytea, bytea, bigint, bytea, bytea, integer[], bigint[], bytea[], text[], bytea[],
        bigint[], bigint[], bigint[], text[], bigint[], text[], bigint[], bigint[], integer[], text[], bigint[], text[],
        bytea[], bytea[], bytea[], bytea[]
    )
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    asof.advance(
        integer, bigint, bytea, bigint, bytea, bytea, bigint, bytea, bytea, integer[], bigint[], bytea[], text[], bytea[],
        bigint[], bigint[], bigint[], text[], bigint[], text[], bigint[]
    ),
    asof.append(
        integer, bigint, bytea, bigint, bytea, bytea, bigint, bytea, bytea, integer[], bigint[], bytea[], text[], bytea[],
        bigint[], bigint[], bigint[], text[], bigint[], text[], bigint[], bigint[], integer[], text[], bigint[], text[],
        bytea[], bytea[], bytea[], bytea[]
    )
TO asof_writer;
GRANT SELECT ON asof.entry, asof.stream TO asof_writer, asof_reader, asof_auditor, asof_projector;
GRANT INSERT ON asof.entry TO asof_writer;
