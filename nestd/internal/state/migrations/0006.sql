-- The first of the host's users that serve the guest, if it is a virtual
-- machine; else 0.
ALTER TABLE guests ADD COLUMN root_user INTEGER NOT NULL DEFAULT 0;
