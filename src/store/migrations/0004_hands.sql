-- Who paused a lane, when and why. A leaf of audit tells of it too; this is what holds now.
ALTER TABLE lane ADD COLUMN held_at  INTEGER NOT NULL DEFAULT 0;  -- ms
ALTER TABLE lane ADD COLUMN held_by  TEXT    NOT NULL DEFAULT ''; -- URI name
ALTER TABLE lane ADD COLUMN held_why TEXT    NOT NULL DEFAULT '';
