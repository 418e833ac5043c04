-- What retention looks for: leaves about no message, by their kind and the moment in their id (UUIDv7).
CREATE INDEX leaf_alone ON leaf (substr(bytes, 2, 1), substr(bytes, 5, 6)) WHERE message IS NULL AND bytes IS NOT NULL;
