-- What a lane must not forget: how it rests, and what it may have sent without an answer.
ALTER TABLE lane ADD COLUMN failures   INTEGER NOT NULL DEFAULT 0; -- in a row
ALTER TABLE lane ADD COLUMN rest_until INTEGER NOT NULL DEFAULT 0; -- ms
ALTER TABLE lane ADD COLUMN held       INTEGER NOT NULL DEFAULT 0; -- 1: by an operator
ALTER TABLE lane ADD COLUMN open       INTEGER NOT NULL DEFAULT 1; -- 1: a session was open when this was written
ALTER TABLE lane ADD COLUMN sent_below INTEGER NOT NULL DEFAULT 0; -- messages before this place may have been sent

ALTER TABLE queue ADD COLUMN due_at  INTEGER NOT NULL DEFAULT 0;   -- ms: the next notice of delay, or the deadline
ALTER TABLE queue ADD COLUMN notices INTEGER NOT NULL DEFAULT 0;   -- notices of delay so far
ALTER TABLE queue ADD COLUMN others  TEXT NOT NULL DEFAULT '';     -- lanes to try after this one, parted by commas

ALTER TABLE message ADD COLUMN via         TEXT NOT NULL DEFAULT ''; -- hubs that carried it here, parted by commas
ALTER TABLE message ADD COLUMN closed_at   INTEGER;                -- ms: when it ended
ALTER TABLE message ADD COLUMN replied_by  BLOB;                   -- message id of the reply
ALTER TABLE message ADD COLUMN redriven_as BLOB;                   -- message id of the message that replaces it
CREATE INDEX message_case ON message (order_key) WHERE order_key IS NOT NULL;

-- On its way to a lane's owner: an own leaf, or the foreign receipt that the leaf at this place witnesses.
ALTER TABLE outbox ADD COLUMN received BLOB;

-- Messages that ended without handover.
CREATE TABLE dead (
    seq    INTEGER PRIMARY KEY,
    at     INTEGER NOT NULL,       -- ms
    reason TEXT NOT NULL,          -- code of the catalogue, or the partner's
    lane   INTEGER NOT NULL,       -- where it was to go
    item   TEXT NOT NULL,          -- service item
    fate   INTEGER NOT NULL,       -- 0 waits for ops, 1 redriven, 2 discarded
    why    TEXT NOT NULL           -- of a discarded one
);

-- What a message refers to among the blobs; the blob lives as long as one row names it.
CREATE TABLE attachment (
    digest BLOB NOT NULL,          -- sha256 of the bytes as they travel
    seq    INTEGER NOT NULL,
    place  INTEGER NOT NULL,       -- among the message's attachments
    sealed INTEGER NOT NULL,       -- 1: the sealed form that was made here
    size   INTEGER NOT NULL,
    PRIMARY KEY (digest, seq, place, sealed)
) WITHOUT ROWID;
CREATE INDEX attachment_message ON attachment (seq);

-- A recipient system's own signature over a header digest, beside the HANDED_OVER leaf that rests on it.
CREATE TABLE signature (
    leaf_hash   BLOB PRIMARY KEY,
    message     INTEGER NOT NULL,
    certificate BLOB NOT NULL,     -- DER
    signature   BLOB NOT NULL
) WITHOUT ROWID;

-- Routing tables: each change of the whole set is a version.
CREATE TABLE route_set (
    version INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,      -- ms
    actor   TEXT NOT NULL,
    action  TEXT NOT NULL,
    leaf    INTEGER NOT NULL       -- of the audit
);
CREATE TABLE route_table (
    owner   TEXT NOT NULL,         -- division
    version INTEGER NOT NULL,      -- of the set in which this text came to be
    text    TEXT,                  -- canonical; none, withdrawn
    PRIMARY KEY (owner, version)
) WITHOUT ROWID;
