-- What `asof migrate` says before the numbered steps, as the administrator; all of it may be said again.

-- name: lock
-- One migration at a time in this database, for the length of the session.
SELECT pg_advisory_lock(hashtext('asof migrate'));

-- name: roles
-- Roles belong to the whole server: another database may be doing the same at this moment.
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['asof_owner', 'asof_writer', 'asof_reader', 'asof_auditor', 'asof_projector'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;
            END;
        END IF;
        IF NOT pg_has_role(current_user, wanted, 'MEMBER') THEN
            EXECUTE format('GRANT %I TO CURRENT_USER', wanted);
        END IF;
    END LOOP;
END $$;

-- name: schema
-- The schemas of the ledgers and of the projections, and nothing for everybody. The database is the
-- administrator's: that nobody makes temporary tables or objects in `public` here is his right to say.
DO $$
BEGIN
    EXECUTE format('REVOKE CREATE, TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE 'REVOKE CREATE ON SCHEMA public FROM PUBLIC';
    IF to_regnamespace('asof') IS NULL THEN
        CREATE SCHEMA asof AUTHORIZATION asof_owner;
    END IF;
    IF to_regnamespace('asof_projections') IS NULL THEN
        CREATE SCHEMA asof_projections AUTHORIZATION asof_projector;
        GRANT USAGE ON SCHEMA asof_projections TO asof_writer, asof_reader, asof_auditor;
        ALTER DEFAULT PRIVILEGES FOR ROLE asof_projector IN SCHEMA asof_projections
            GRANT SELECT ON TABLES TO asof_writer, asof_reader, asof_auditor;
    END IF;
END $$;

-- name: migration_table
CREATE TABLE IF NOT EXISTS asof.migration (
    number integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- name: has_migrations
SELECT to_regclass('asof.migration') IS NOT NULL;

-- name: applied
SELECT number, name, checksum FROM asof.migration ORDER BY number;

-- name: note_migration
INSERT INTO asof.migration (number, name, checksum) VALUES (%s, %s, %s);

-- name: as_owner
SET LOCAL ROLE asof_owner;

-- name: login
-- A role that people or programs log in as; what it may do comes from the groups it is a member of.
SELECT format('CREATE ROLE %%I LOGIN PASSWORD %%L', %s::text, %s::text);

-- name: has_role
SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %s);

-- name: grant
SELECT format('GRANT %%I TO %%I', %s::text, %s::text);

-- name: schema_lines
-- What the schema consists of, a line each, alike on every version of the server.
WITH relation AS (
    SELECT oid, relname FROM pg_class WHERE relnamespace = to_regnamespace('asof') AND relkind IN ('r', 'v', 'm', 'p', 'f')
)
SELECT line FROM (
    SELECT format('%%s %%s owner %%s', CASE relkind WHEN 'r' THEN 'table' ELSE 'relation ' || relkind::text END, relname,
        pg_get_userbyid(relowner)) AS line
    FROM pg_class WHERE relnamespace = to_regnamespace('asof') AND relkind NOT IN ('i', 'I', 't', 'c', 'S')
    UNION ALL
    SELECT format('column %%s.%%s %%s%%s%%s%%s', r.relname, attname, format_type(atttypid, atttypmod),
        CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END, CASE attidentity WHEN '' THEN '' ELSE ' identity ' || attidentity::text END,
        CASE WHEN attcollation = 0 THEN '' ELSE ' collate ' || (SELECT collname::text FROM pg_collation WHERE oid = attcollation) END)
    FROM pg_attribute JOIN relation AS r ON r.oid = attrelid WHERE attnum > 0 AND NOT attisdropped
    UNION ALL
    SELECT format('constraint %%s.%%s %%s', r.relname, conname, pg_get_constraintdef(c.oid))
    FROM pg_constraint AS c JOIN relation AS r ON r.oid = conrelid WHERE contype IN ('c', 'f', 'p', 'u', 'x', 't')
    UNION ALL
    SELECT format('index %%s', pg_get_indexdef(indexrelid)) FROM pg_index JOIN relation AS r ON r.oid = indrelid
    UNION ALL
    SELECT format('trigger %%s.%%s enabled %%s %%s', r.relname, tgname, tgenabled, pg_get_triggerdef(t.oid))
    FROM pg_trigger AS t JOIN relation AS r ON r.oid = tgrelid WHERE NOT tgisinternal
    UNION ALL
    SELECT format('rule %%s.%%s', r.relname, rulename) FROM pg_rewrite JOIN relation AS r ON r.oid = ev_class
    UNION ALL
    SELECT format('policy %%s.%%s', r.relname, polname) FROM pg_policy JOIN relation AS r ON r.oid = polrelid
    UNION ALL
    SELECT format('function %%s(%%s) owner %%s definer %%s settings %%s body %%s', proname,
        pg_get_function_identity_arguments(oid), pg_get_userbyid(proowner), prosecdef,
        array_to_string(proconfig, ','), md5(prosrc))
    FROM pg_proc WHERE pronamespace = to_regnamespace('asof')
    UNION ALL
    SELECT format('grant %%s on %%s to %%s', a.privilege_type, c.relname,
        CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee) END)
    FROM pg_class AS c CROSS JOIN aclexplode(c.relacl) AS a
    WHERE c.relnamespace = to_regnamespace('asof') AND a.grantee <> c.relowner
    UNION ALL
    SELECT format('grant %%s on function %%s to %%s', a.privilege_type, proname,
        CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee) END)
    FROM pg_proc CROSS JOIN aclexplode(coalesce(proacl, acldefault('f', proowner))) AS a
    WHERE pronamespace = to_regnamespace('asof') AND a.grantee <> proowner
    UNION ALL
    SELECT format('grant %%s on schema to %%s', a.privilege_type,
        CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee) END)
    FROM pg_namespace CROSS JOIN aclexplode(nspacl) AS a WHERE nspname = 'asof' AND a.grantee <> nspowner
    UNION ALL
    SELECT format('schema owner %%s', pg_get_userbyid(nspowner)) FROM pg_namespace WHERE nspname = 'asof'
) AS found ORDER BY line COLLATE "C";

-- name: may_create_roles
SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user;
