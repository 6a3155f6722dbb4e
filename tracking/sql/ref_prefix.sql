-- Any id that starts so lies between the prefix and the prefix followed by the
-- last character there is.
SELECT id FROM runs WHERE id >= :prefix AND id < :prefix || char(0x10ffff) ORDER BY id DESC LIMIT :limit
