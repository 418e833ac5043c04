-- Checkpoints that were published, and what witnesses have signed to them.
CREATE TABLE published (
    place INTEGER PRIMARY KEY,     -- checkpoint.size
    at    INTEGER NOT NULL         -- ms
);
CREATE TABLE cosignature (
    place  INTEGER NOT NULL,       -- of the published checkpoint
    signer TEXT    NOT NULL,       -- the witness's name and key id
    line   TEXT    NOT NULL,       -- the signature line without its newline
    PRIMARY KEY (place, signer)
) WITHOUT ROWID;
