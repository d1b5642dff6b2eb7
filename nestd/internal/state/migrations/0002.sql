-- The index database. Shards are content-addressed and shared by every index
-- that lists them; packages and names belong to shards.

CREATE TABLE indexes (
    id         INTEGER PRIMARY KEY,
    digest     BLOB NOT NULL UNIQUE,  -- of the index root
    repository BLOB NOT NULL,
    publisher  TEXT NOT NULL,
    rank       INTEGER NOT NULL       -- 0: current, 1: the one before, 2: not shown to guests yet
) STRICT;

CREATE TABLE shards (
    id     INTEGER PRIMARY KEY,
    digest BLOB NOT NULL,
    number INTEGER NOT NULL,
    bits   INTEGER NOT NULL,
    UNIQUE (digest, number, bits)
) STRICT;

CREATE TABLE index_shards (
    idx   INTEGER NOT NULL REFERENCES indexes (id) ON DELETE CASCADE,
    shard INTEGER NOT NULL REFERENCES shards (id),
    PRIMARY KEY (idx, shard)
) STRICT, WITHOUT ROWID;
CREATE INDEX index_shards_shard ON index_shards (shard);

-- Roots and tables, as they were signed. Shards are put together from their
-- packages.
CREATE TABLE index_documents (
    idx    INTEGER NOT NULL REFERENCES indexes (id) ON DELETE CASCADE,
    digest BLOB NOT NULL,
    text   BLOB NOT NULL,
    PRIMARY KEY (idx, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX index_documents_digest ON index_documents (digest);

-- Identifiers follow the order within a shard.
CREATE TABLE packages (
    id     INTEGER PRIMARY KEY,
    shard  INTEGER NOT NULL,
    name   TEXT NOT NULL,
    record BLOB NOT NULL,             -- the package ID
    size   INTEGER NOT NULL,          -- of the record, bytes
    entry  BLOB NOT NULL              -- canonical JSON of index.Entry
) STRICT;
CREATE INDEX packages_shard ON packages (shard);
CREATE INDEX packages_name ON packages (name);
CREATE INDEX packages_record ON packages (record);

-- Names under which packages are looked up. They have no index by package:
-- what to delete follows from the entry.
CREATE TABLE capabilities (
    name    TEXT NOT NULL,            -- provides, package names, primary paths
    package INTEGER NOT NULL,
    PRIMARY KEY (name, package)
) STRICT, WITHOUT ROWID;

CREATE TABLE obsoletes (
    name    TEXT NOT NULL,
    package INTEGER NOT NULL,
    PRIMARY KEY (name, package)
) STRICT, WITHOUT ROWID;

CREATE TABLE supplements (
    name    TEXT NOT NULL,            -- named in supplements or enhances
    package INTEGER NOT NULL,
    PRIMARY KEY (name, package)
) STRICT, WITHOUT ROWID;
