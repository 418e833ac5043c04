-- The texts of routing tables lie beside their keys, no longer among them: who sought a key there had it compared with whole
-- texts of megabytes, more of them with every version.
CREATE TABLE route_text (
    owner   TEXT NOT NULL,         -- division
    version INTEGER NOT NULL,      -- of the set in which this text came to be
    text    TEXT,                  -- canonical; none, withdrawn
    PRIMARY KEY (owner, version)
);
INSERT INTO route_text SELECT owner, version, text FROM route_table ORDER BY owner, version;
DROP TABLE route_table;
ALTER TABLE route_text RENAME TO route_table;
