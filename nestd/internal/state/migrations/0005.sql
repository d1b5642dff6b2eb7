-- Whether the nest places the guest's mounts when the guest asks.
ALTER TABLE guests ADD COLUMN placement INTEGER NOT NULL DEFAULT 0;
