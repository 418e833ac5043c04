-- Places of leaves, tiles and checkpoints count on over all logs of this gateway: each new generation begins at the next
-- multiple of 2^40, so that the leaves, tiles and checkpoints of one never meet those of another.
ALTER TABLE tree ADD COLUMN first INTEGER NOT NULL DEFAULT 0;     -- place of the first leaf of the log that goes on
