-- The lease counts the sessions of a run. Every write checks it: a process whose
-- run another process has taken over writes no more.
ALTER TABLE runs ADD COLUMN lease INTEGER NOT NULL DEFAULT 1;

-- The dataset's path from the store's folder, for projects that move.
ALTER TABLE runs ADD COLUMN dataset_relative TEXT NOT NULL DEFAULT '';
