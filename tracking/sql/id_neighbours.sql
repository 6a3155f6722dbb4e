SELECT j.value,
       coalesce((SELECT max(id) FROM runs WHERE id < j.value), ''),
       coalesce((SELECT min(id) FROM runs WHERE id > j.value), '')
FROM json_each(?) j
