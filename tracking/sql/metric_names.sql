SELECT metric, name FROM metric_names
