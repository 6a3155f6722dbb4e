INSERT INTO metric_names (name, highest) VALUES (?, ?)
ON CONFLICT (name) DO UPDATE SET name = excluded.name
RETURNING metric
