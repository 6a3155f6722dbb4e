-- The runs that were removed: gc deletes the folders of these and of no others,
-- whatever folder it is pointed at.
CREATE TABLE removed_runs (
  id      TEXT PRIMARY KEY,
  removed TEXT NOT NULL
) STRICT, WITHOUT ROWID;
