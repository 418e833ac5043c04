-- Log, tree and checkpoints: what a receipt is made of.
CREATE TABLE leaf (
    idx     INTEGER PRIMARY KEY,   -- place in the log, from 0
    hash    BLOB NOT NULL,         -- RFC 6962 leaf hash, 32 bytes; kept when the bytes go
    message INTEGER,               -- message.seq the leaf speaks of
    bytes   BLOB                   -- the leaf
);
CREATE INDEX leaf_message ON leaf (message) WHERE message IS NOT NULL;
CREATE TABLE tile (
    level INTEGER NOT NULL,        -- 1: root of 256 leaves, 2: of 65,536, …
    idx   INTEGER NOT NULL,
    hash  BLOB NOT NULL,
    PRIMARY KEY (level, idx)
) WITHOUT ROWID;
CREATE TABLE tree (
    one  INTEGER PRIMARY KEY CHECK (one = 1),
    size INTEGER NOT NULL,
    edge BLOB NOT NULL             -- right edge, 32 bytes a hash
);
INSERT INTO tree VALUES (1, 0, x'');
CREATE TABLE checkpoint (
    size INTEGER PRIMARY KEY,      -- leaves under it
    note TEXT NOT NULL             -- the signed note as it was shown
);

-- Messages in this gateway's custody, or once in it.
CREATE TABLE lane (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE      -- gateway/<member> or system/<name>
);
CREATE TABLE message (
    seq            INTEGER PRIMARY KEY,
    from_city      TEXT NOT NULL,
    message_id     BLOB NOT NULL,  -- 16 bytes
    header_digest  BLOB NOT NULL,  -- sha256
    state          INTEGER NOT NULL,
    flags          INTEGER NOT NULL, -- 1 in doubt, 2 late
    lane           INTEGER NOT NULL,
    order_key      TEXT,           -- from.city, to.city, case number; none, no order
    first_leaf     INTEGER NOT NULL, -- the receipt that answered the sender
    base_leaf      INTEGER NOT NULL, -- newest full leaf
    last_leaf      INTEGER NOT NULL, -- newest leaf
    to_city        TEXT NOT NULL,  -- as resolved
    to_system      TEXT,
    stored_at      INTEGER NOT NULL, -- ms
    expires_at     INTEGER NOT NULL, -- ms
    origin_receipt BLOB,           -- received.leaf_hash; none for messages of our own
    header         BLOB NOT NULL,  -- the envelope without content
    body           BLOB            -- inline contents, one after the other
);
CREATE UNIQUE INDEX message_key ON message (from_city, message_id);
CREATE TABLE queue (
    lane         INTEGER NOT NULL,
    seq          INTEGER NOT NULL,
    deliveries   INTEGER NOT NULL,
    parked_until INTEGER NOT NULL, -- ms
    PRIMARY KEY (lane, seq)
) WITHOUT ROWID;

-- Receipts of other logs, and our own on their way back to an origin.
-- A receipt is known by the hash of its leaf: ids are chosen by those who issue them.
CREATE TABLE received (
    leaf_hash  BLOB PRIMARY KEY,   -- 32 bytes
    message    INTEGER NOT NULL,
    at         INTEGER NOT NULL,   -- ms
    leaf       BLOB NOT NULL,
    proof      TEXT NOT NULL       -- tlog-proof
) WITHOUT ROWID;
CREATE INDEX received_message ON received (message, at);
CREATE TABLE outbox (
    lane INTEGER NOT NULL,
    leaf INTEGER NOT NULL,
    PRIMARY KEY (lane, leaf)
) WITHOUT ROWID;
CREATE TABLE detail (
    leaf_hash BLOB PRIMARY KEY,    -- of the receipt that the text stands beside
    message   INTEGER NOT NULL,
    text      TEXT NOT NULL
) WITHOUT ROWID;
