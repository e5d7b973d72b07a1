-- What the writer may do with a head: nothing but what these functions do. They run with the owner's rights, so their
-- search_path is fixed, with pg_temp last: a temporary table never stands in for one of ours.

-- Begin a ledger; the id of the one that is there, where somebody was faster or a call was interrupted.
CREATE FUNCTION asof.begin_ledger(
    p_origin text, p_size bigint, p_root bytea, p_last_leaf bytea, p_recorded_at bigint, p_edge bytea, p_checkpoint bytea
) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, asof, pg_temp AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'on', true)
        WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply');
    INSERT INTO asof.ledger (origin, size, root, last_leaf, recorded_at, edge, checkpoint)
    VALUES (p_origin, p_size, p_root, p_last_leaf, p_recorded_at, p_edge, p_checkpoint)
    ON CONFLICT (origin) DO NOTHING;
    RETURN (SELECT id FROM asof.ledger WHERE origin = p_origin);
END $$;

-- Take the lock of a ledger until the transaction ends, make its commit durable whatever the session's settings say,
-- and tell the head, with the leaf hashes that a writer who knows the first p_known entries is missing.
CREATE FUNCTION asof.lock_head(
    p_ledger integer, p_known bigint, p_most bigint,
    OUT origin text, OUT size bigint, OUT root bytea, OUT last_leaf bytea, OUT recorded_at bigint, OUT edge bytea,
    OUT checkpoint bytea, OUT missing bytea
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, asof, pg_temp AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'on', true)
        WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply');
    SELECT l.origin, l.size, l.root, l.last_leaf, l.recorded_at, l.edge, l.checkpoint
    INTO origin, size, root, last_leaf, recorded_at, edge, checkpoint
    FROM asof.ledger AS l WHERE l.id = p_ledger FOR UPDATE;
    IF p_known < size AND size - p_known <= p_most THEN
        SELECT string_agg(e.leaf_hash, ''::bytea ORDER BY e.idx) INTO missing
        FROM asof.entry AS e WHERE e.ledger = p_ledger AND e.idx >= p_known AND e.idx < size;
    END IF;
END $$;

-- Replace the head that the caller began from. False where it no longer stands: then nothing was written.
CREATE FUNCTION asof.advance(
    p_ledger integer, p_from_size bigint, p_from_root bytea,
    p_size bigint, p_root bytea, p_last_leaf bytea, p_recorded_at bigint, p_edge bytea, p_checkpoint bytea,
    p_levels integer[], p_numbers bigint[], p_hashes bytea[],
    p_keys text[], p_digests bytea[], p_firsts bigint[], p_counts bigint[], p_sizes bigint[],
    p_followers text[], p_positions bigint[]
) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, asof, pg_temp AS $$
BEGIN
    UPDATE asof.ledger SET size = p_size, root = p_root, last_leaf = p_last_leaf, recorded_at = p_recorded_at,
        edge = p_edge, checkpoint = p_checkpoint
    WHERE id = p_ledger AND size = p_from_size AND root = p_from_root;
    IF NOT FOUND THEN
        RETURN false;
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
-- nothing written, where the head has moved since the caller read it.
CREATE FUNCTION asof.append(
    p_ledger integer, p_from_size bigint, p_from_root bytea,
    p_size bigint, p_root bytea, p_last_leaf bytea, p_recorded_at bigint, p_edge bytea, p_checkpoint bytea,
    p_levels integer[], p_numbers bigint[], p_hashes bytea[],
    p_keys text[], p_digests bytea[], p_firsts bigint[], p_counts bigint[], p_sizes bigint[],
    p_followers text[], p_positions bigint[],
    p_times bigint[], p_versions integer[], p_actors text[], p_streams text[], p_types text[],
    p_commitments bytea[], p_leaves bytea[], p_salts bytea[], p_payloads bytea[]
) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, asof, pg_temp AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'on', true)
        WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply');
    IF NOT asof.advance(
        p_ledger, p_from_size, p_from_root, p_size, p_root, p_last_leaf, p_recorded_at, p_edge, p_checkpoint,
        p_levels, p_numbers, p_hashes, p_keys, p_digests, p_firsts, p_counts, p_sizes, p_followers, p_positions
    ) THEN
        RETURN false;
    END IF;
    INSERT INTO asof.entry
        (ledger, idx, recorded_at, version, actor, stream, type, commitment, leaf_hash, salt, payload)
    SELECT p_ledger, p_from_size + e.place - 1, e.at, e.version, e.actor, e.stream, e.type, e.commitment, e.leaf_hash,
        e.salt, e.payload
    FROM unnest(p_times, p_versions, p_actors, p_streams, p_types, p_commitments, p_leaves, p_salts, p_payloads)
        WITH ORDINALITY
        AS e (at, version, actor, stream, type, commitment, leaf_hash, salt, payload, place);
    RETURN true;
END $$;

-- Set a follower's position without an append. False where it would not grow.
CREATE FUNCTION asof.track(p_ledger integer, p_follower text, p_position bigint)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, asof, pg_temp AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'on', true)
        WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply');
    INSERT INTO asof.follower AS f (ledger, name, position) VALUES (p_ledger, p_follower, p_position)
    ON CONFLICT (ledger, name) DO UPDATE SET position = excluded.position WHERE f.position < excluded.position;
    RETURN FOUND;
END $$;
