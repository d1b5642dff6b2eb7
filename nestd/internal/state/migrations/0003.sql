-- Merged trees. That there is a row says that the tree is whole and durable
-- (rule N2). What a guest sees of a set of packages is a tree and those below
-- it: each delta tree lies on the one that it names as its base.
CREATE TABLE trees (
    id          BLOB PRIMARY KEY,
    environment BLOB NOT NULL,          -- what the stack from this tree down shows: SHA-256 of layers and aliases
    base        BLOB REFERENCES trees,  -- NULL: it is whole
    staging     TEXT NOT NULL,          -- name of the stage it is renamed from
    aliases     TEXT NOT NULL,          -- JSON object, keys sorted
    layers      BLOB NOT NULL,          -- that the stack shows: IDs, sorted, 32 bytes each
    entries     INTEGER NOT NULL,       -- files, symlinks and whiteouts of this tree
    created     INTEGER NOT NULL,
    used        INTEGER NOT NULL        -- when a guest last asked for it
) STRICT;
CREATE INDEX trees_base ON trees (base);
CREATE INDEX trees_environment ON trees (environment);
CREATE INDEX trees_used ON trees (aliases, used);

-- What guests' overlays are made of, or are about to be (rule N3): of a stack,
-- the tree on top.
CREATE TABLE environments (
    guest TEXT NOT NULL REFERENCES guests ON DELETE CASCADE,
    tree  BLOB NOT NULL REFERENCES trees (id),
    rank  INTEGER NOT NULL,             -- 0: asked for last
    PRIMARY KEY (guest, tree)
) STRICT, WITHOUT ROWID;
CREATE INDEX environments_tree ON environments (tree);
