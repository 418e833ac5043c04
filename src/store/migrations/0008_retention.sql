-- What retention looks for among messages that have ended: an hourly look at a large store reads what it takes, not all of it.
CREATE INDEX message_body ON message (closed_at) WHERE closed_at IS NOT NULL AND body IS NOT NULL;
CREATE INDEX message_envelope ON message (stored_at) WHERE closed_at IS NOT NULL AND header <> x'';
