-- Who may do what. The roles are groups: people and programs log in as members (`asof migrate --login`). Nobody gets
-- UPDATE, DELETE, TRUNCATE or CREATE on anything here, and only the functions move a head.
--
--   asof_owner      owns everything, logs in never
--   asof_writer     appends: INSERT of entries (COPY needs it), the functions; reads
--   asof_reader     reads
--   asof_auditor    reads; set apart so that what only auditors may see can be added
--   asof_projector  reads; owns the schema of the projections, which can be dropped and built again

REVOKE ALL ON SCHEMA asof FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA asof FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA asof FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA asof FROM PUBLIC;

GRANT USAGE ON SCHEMA asof TO asof_writer, asof_reader, asof_auditor, asof_projector;
GRANT SELECT ON ALL TABLES IN SCHEMA asof TO asof_writer, asof_reader, asof_auditor, asof_projector;

GRANT INSERT ON asof.entry TO asof_writer;
GRANT EXECUTE ON FUNCTION
    asof.begin_ledger(text, bigint, bytea, bytea, bigint, bytea, bytea),
    asof.lock_head(integer, bigint, bigint),
    asof.advance(
        integer, bigint, bytea, bigint, bytea, bytea, bigint, bytea, bytea, integer[], bigint[], bytea[], text[], bytea[],
        bigint[], bigint[], bigint[], text[], bigint[]
    ),
    asof.append(
        integer, bigint, bytea, bigint, bytea, bytea, bigint, bytea, bytea, integer[], bigint[], bytea[], text[], bytea[],
        bigint[], bigint[], bigint[], text[], bigint[], bigint[], integer[], text[], text[], text[], bytea[], bytea[],
        bytea[], bytea[]
    ),
    asof.track(integer, text, bigint)
TO asof_writer;

