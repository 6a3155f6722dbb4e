INSERT INTO removed_runs (id, removed) VALUES (?, ?) ON CONFLICT DO NOTHING
