-- The ledgers of one database. Everything lies in the schema `asof`, is owned by `asof_owner`, a role that nobody
-- logs in as, and begins its primary key with the ledger, so that a distributed PostgreSQL can shard by it.

-- A ledger and its head: one row each, replaced by each append, and only by a larger one. No index covers what an
-- append changes, so that the new version of the row fits into the same page.
CREATE TABLE asof.ledger (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    origin text COLLATE "C" NOT NULL UNIQUE,
    size bigint NOT NULL CHECK (size >= 0),
    root bytea NOT NULL CHECK (octet_length(root) = 32),
    last_leaf bytea NOT NULL CHECK (octet_length(last_leaf) = 32),
    recorded_at bigint NOT NULL,
    edge bytea NOT NULL CHECK (octet_length(edge) % 32 = 0),
    checkpoint bytea NOT NULL
) WITH (fillfactor = 20);

-- Entries as fields; `prev` is the leaf hash of the row before, so that one successor an entry is what the primary key
-- says (docs/adr/0002). `salt` and `payload` are NULL together where the payload was withheld or erased.
CREATE TABLE asof.entry (
    idx bigint NOT NULL CHECK (idx >= 0),
    recorded_at bigint NOT NULL,
    ledger integer NOT NULL,
    version integer NOT NULL CHECK (version > 0),
    actor text COLLATE "C" NOT NULL,
    stream text COLLATE "C" NOT NULL,
    type text COLLATE "C" NOT NULL,
    commitment bytea NOT NULL CHECK (octet_length(commitment) = 32),
    leaf_hash bytea NOT NULL CHECK (octet_length(leaf_hash) = 32),
    salt bytea,
    payload bytea,
    PRIMARY KEY (ledger, idx),
    UNIQUE (ledger, stream, version)
);
-- Payloads are hashed and handed out as they are: compressing them would cost each append.
ALTER TABLE asof.entry ALTER COLUMN payload SET STORAGE EXTERNAL;

-- Full tiles of the tree, 256 hashes each, which do not compress; never written again.
CREATE TABLE asof.tile (
    ledger integer NOT NULL,
    level integer NOT NULL CHECK (level >= 0),
    number bigint NOT NULL CHECK (number >= 0),
    hashes bytea NOT NULL CHECK (octet_length(hashes) = 8192),
    PRIMARY KEY (ledger, level, number)
);
ALTER TABLE asof.tile ALTER COLUMN hashes SET STORAGE EXTERNAL;

-- Idempotency keys: which batch a key stands for.
CREATE TABLE asof.key_use (
    ledger integer NOT NULL,
    key text COLLATE "C" NOT NULL,
    body_digest bytea NOT NULL CHECK (octet_length(body_digest) = 32),
    first_index bigint NOT NULL CHECK (first_index >= 0),
    count bigint NOT NULL CHECK (count > 0),
    tree_size bigint NOT NULL CHECK (tree_size >= first_index + count),
    PRIMARY KEY (ledger, key)
);

-- How far each follower of some log has come: set in the transaction of the append that answers it.
CREATE TABLE asof.follower (
    ledger integer NOT NULL,
    name text COLLATE "C" NOT NULL,
    position bigint NOT NULL CHECK (position >= 0),
    PRIMARY KEY (ledger, name)
);

-- The deny triggers, ENABLE ALWAYS: a session that plays replica does not get past them. They stop mistakes and
-- programs; the owner of the database is not stopped by anything in it (docs/spec/store.md).
CREATE FUNCTION asof.refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'asof: % of % is refused: what is recorded is never changed', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END $$;

CREATE FUNCTION asof.refuse_going_back() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.id <> OLD.id OR NEW.origin <> OLD.origin OR NEW.size <= OLD.size OR NEW.recorded_at < OLD.recorded_at THEN
        RAISE EXCEPTION 'asof: the head only grows' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION asof.refuse_stepping_back() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.ledger <> OLD.ledger OR NEW.name <> OLD.name OR NEW.position <= OLD.position THEN
        RAISE EXCEPTION 'asof: a follower only goes on' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER entry_is_not_changed BEFORE UPDATE OR DELETE ON asof.entry
FOR EACH ROW EXECUTE FUNCTION asof.refuse_change();
CREATE TRIGGER entry_is_not_truncated BEFORE TRUNCATE ON asof.entry
FOR EACH STATEMENT EXECUTE FUNCTION asof.refuse_change();
CREATE TRIGGER tile_is_not_changed BEFORE UPDATE OR DELETE ON asof.tile
FOR EACH ROW EXECUTE FUNCTION asof.refuse_change();
CREATE TRIGGER tile_is_not_truncated BEFORE TRUNCATE ON asof.tile
FOR EACH STATEMENT EXECUTE FUNCTION asof.refuse_change();
CREATE TRIGGER key_use_is_not_changed BEFORE UPDATE OR DELETE ON asof.key_use
FOR EACH ROW EXECUTE FUNCTION asof.refuse_change();
CREATE TRIGGER key_use_is_not_truncated BEFORE TRUNCATE ON asof.key_use
FOR EACH STATEMENT EXECUTE FUNCTION asof.refuse_change();
CREATE TRIGGER ledger_only_grows BEFORE UPDATE ON asof.ledger
FOR EACH ROW EXECUTE FUNCTION asof.refuse_going_back();
CREATE TRIGGER ledger_is_not_deleted BEFORE DELETE ON asof.ledger
FOR EACH ROW EXECUTE FUNCTION asof.refuse_change();
CREATE TRIGGER ledger_is_not_truncated BEFORE TRUNCATE ON asof.ledger
FOR EACH STATEMENT EXECUTE FUNCTION asof.refuse_change();
CREATE TRIGGER follower_only_goes_on BEFORE UPDATE ON asof.follower
FOR EACH ROW EXECUTE FUNCTION asof.refuse_stepping_back();
CREATE TRIGGER follower_is_not_deleted BEFORE DELETE ON asof.follower
FOR EACH ROW EXECUTE FUNCTION asof.refuse_change();
CREATE TRIGGER follower_is_not_truncated BEFORE TRUNCATE ON asof.follower
FOR EACH STATEMENT EXECUTE FUNCTION asof.refuse_change();

ALTER TABLE asof.entry ENABLE ALWAYS TRIGGER entry_is_not_changed, ENABLE ALWAYS TRIGGER entry_is_not_truncated;
ALTER TABLE asof.tile ENABLE ALWAYS TRIGGER tile_is_not_changed, ENABLE ALWAYS TRIGGER tile_is_not_truncated;
ALTER TABLE asof.key_use ENABLE ALWAYS TRIGGER key_use_is_not_changed, ENABLE ALWAYS TRIGGER key_use_is_not_truncated;
ALTER TABLE asof.ledger ENABLE ALWAYS TRIGGER ledger_only_grows, ENABLE ALWAYS TRIGGER ledger_is_not_deleted,
    ENABLE ALWAYS TRIGGER ledger_is_not_truncated;
ALTER TABLE asof.follower ENABLE ALWAYS TRIGGER follower_only_goes_on, ENABLE ALWAYS TRIGGER follower_is_not_deleted,
    ENABLE ALWAYS TRIGGER follower_is_not_truncated;
