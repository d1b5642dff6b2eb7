-- Digests are blobs of 32 bytes; times are seconds since the epoch, UTC.

CREATE TABLE repositories (
    root    BLOB PRIMARY KEY,           -- SHA-256 of the first root: its identity
    url     TEXT NOT NULL,
    checked INTEGER NOT NULL DEFAULT 0, -- when it last answered
    expires INTEGER NOT NULL DEFAULT 0,
    version INTEGER NOT NULL DEFAULT 0, -- of the timestamp that guests see
    error   TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;

CREATE TABLE guests (
    name        TEXT PRIMARY KEY,
    owner       BLOB NOT NULL,
    host_userns INTEGER NOT NULL,
    created     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE layers (
    id            BLOB PRIMARY KEY,        -- the package ID
    staging       TEXT NOT NULL,           -- name of the stage it is renamed from (rule N2)
    manifest      BLOB NOT NULL,           -- digest of the file list
    manifest_size INTEGER NOT NULL,
    private       TEXT NOT NULL,           -- JSON array of repo.File
    stored        INTEGER NOT NULL,        -- bytes of objects that came with it
    shared        INTEGER NOT NULL,        -- bytes of objects that were there before
    objects       INTEGER NOT NULL,
    fetched       INTEGER NOT NULL,        -- bytes that came over the network for it
    created       INTEGER NOT NULL,
    used          INTEGER NOT NULL         -- when a guest last asked for it
) STRICT, WITHOUT ROWID;

-- What a guest was admitted for: it attaches nothing else.
CREATE TABLE entitlements (
    guest TEXT NOT NULL REFERENCES guests ON DELETE CASCADE,
    layer BLOB NOT NULL REFERENCES layers ON DELETE CASCADE,
    PRIMARY KEY (guest, layer)
) STRICT, WITHOUT ROWID;

-- What a guest has installed or is about to (rule N3).
CREATE TABLE refs (
    guest TEXT NOT NULL REFERENCES guests ON DELETE CASCADE,
    layer BLOB NOT NULL REFERENCES layers,
    PRIMARY KEY (guest, layer)
) STRICT, WITHOUT ROWID;
CREATE INDEX refs_layer ON refs (layer);
CREATE INDEX entitlements_layer ON entitlements (layer);

CREATE TABLE counters (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Documents whose size a verified parent names, so that they can be fetched
-- on demand without trusting anybody with their length.
CREATE TABLE bounds (
    digest BLOB PRIMARY KEY,
    size   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
