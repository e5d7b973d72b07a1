-- How far each follower of some log has come: set in the transaction of the append that answers it.
CREATE TABLE follower (
    name TEXT PRIMARY KEY,
    position INTEGER NOT NULL CHECK (position >= 0)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER follower_only_goes_on BEFORE UPDATE ON follower
WHEN NEW.name IS NOT OLD.name OR NEW.position <= OLD.position
BEGIN SELECT RAISE(ABORT, 'asof: a follower only goes on'); END;
