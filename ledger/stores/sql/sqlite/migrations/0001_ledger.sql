-- One ledger, one file. `PRAGMA application_id` is 0x61736F66 ("asof"), `PRAGMA user_version` the
-- version of this schema. At every open the file's own schema is compared with this text, object by
-- object: a missing trigger or an added view is refused.

-- Entries as fields. `prev` is the leaf hash of the row before and the entry's bytes follow from the
-- fields (docs/adr/0002-entry-kept-as-fields.md). The payload is last: a reader of the hashes does not
-- walk over it. `salt` and `payload` are NULL together where the payload was withheld or erased.
CREATE TABLE entry (
    idx INTEGER PRIMARY KEY CHECK (idx >= 0),
    recorded_at INTEGER NOT NULL,
    version INTEGER NOT NULL CHECK (version > 0),
    actor TEXT NOT NULL,
    stream TEXT NOT NULL,
    type TEXT NOT NULL,
    commitment BLOB NOT NULL CHECK (length(commitment) = 32),
    leaf_hash BLOB NOT NULL CHECK (length(leaf_hash) = 32),
    salt BLOB,
    payload BLOB,
    UNIQUE (stream, version)
) STRICT;

-- Full tiles of the tree, 256 hashes each; never written again.
CREATE TABLE tile (
    level INTEGER NOT NULL CHECK (level >= 0),
    number INTEGER NOT NULL CHECK (number >= 0),
    hashes BLOB NOT NULL CHECK (length(hashes) = 8192),
    PRIMARY KEY (level, number)
) STRICT;

-- Idempotency keys: which batch a key stands for.
CREATE TABLE key_use (
    key TEXT PRIMARY KEY,
    body_digest BLOB NOT NULL CHECK (length(body_digest) = 32),
    first_index INTEGER NOT NULL CHECK (first_index >= 0),
    count INTEGER NOT NULL CHECK (count > 0),
    tree_size INTEGER NOT NULL CHECK (tree_size >= first_index + count)
) STRICT, WITHOUT ROWID;

-- The head: one row, replaced by each append, and only by a larger one.
CREATE TABLE head (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    origin TEXT NOT NULL,
    size INTEGER NOT NULL CHECK (size >= 0),
    root BLOB NOT NULL CHECK (length(root) = 32),
    last_leaf BLOB NOT NULL CHECK (length(last_leaf) = 32),
    recorded_at INTEGER NOT NULL,
    edge BLOB NOT NULL CHECK (length(edge) % 32 = 0),
    checkpoint BLOB NOT NULL
) STRICT;

-- The deny triggers. They stop mistakes and programs; they do not stop the owner of the file, against
-- whom only what left this machine helps (docs/spec/store.md). Replacing an entry deletes it, which our
-- connections refuse (`recursive_triggers`); a trigger before each insert would cost a tenth of the speed.
CREATE TRIGGER entry_is_not_updated BEFORE UPDATE ON entry
BEGIN SELECT RAISE(ABORT, 'asof: an entry is never changed'); END;

CREATE TRIGGER entry_is_not_deleted BEFORE DELETE ON entry
BEGIN SELECT RAISE(ABORT, 'asof: an entry is never deleted'); END;

CREATE TRIGGER tile_is_not_updated BEFORE UPDATE ON tile
BEGIN SELECT RAISE(ABORT, 'asof: a tile is never changed'); END;

CREATE TRIGGER tile_is_not_deleted BEFORE DELETE ON tile
BEGIN SELECT RAISE(ABORT, 'asof: a tile is never deleted'); END;

CREATE TRIGGER tile_is_not_replaced BEFORE INSERT ON tile
WHEN EXISTS (SELECT 1 FROM tile WHERE level = NEW.level AND number = NEW.number)
BEGIN SELECT RAISE(ABORT, 'asof: a tile is never replaced'); END;

CREATE TRIGGER key_use_is_not_updated BEFORE UPDATE ON key_use
BEGIN SELECT RAISE(ABORT, 'asof: a key is used once'); END;

CREATE TRIGGER key_use_is_not_deleted BEFORE DELETE ON key_use
BEGIN SELECT RAISE(ABORT, 'asof: a use of a key is never deleted'); END;

CREATE TRIGGER key_use_is_not_replaced BEFORE INSERT ON key_use
WHEN EXISTS (SELECT 1 FROM key_use WHERE key = NEW.key)
BEGIN SELECT RAISE(ABORT, 'asof: a key is used once'); END;

CREATE TRIGGER head_only_grows BEFORE UPDATE ON head
WHEN NEW.size <= OLD.size OR NEW.origin IS NOT OLD.origin OR NEW.recorded_at < OLD.recorded_at
BEGIN SELECT RAISE(ABORT, 'asof: the head only grows'); END;

CREATE TRIGGER head_is_not_deleted BEFORE DELETE ON head
BEGIN SELECT RAISE(ABORT, 'asof: the head is never deleted'); END;

CREATE TRIGGER head_is_not_replaced BEFORE INSERT ON head
WHEN EXISTS (SELECT 1 FROM head)
BEGIN SELECT RAISE(ABORT, 'asof: a ledger is begun once'); END;
