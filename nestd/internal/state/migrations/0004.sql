-- Whose package a layer is: as it was first asked for. Of layers from before
-- this migration the index may still know it; where it does not, it stays
-- empty.
ALTER TABLE layers ADD COLUMN repository BLOB NOT NULL DEFAULT x'';
ALTER TABLE layers ADD COLUMN publisher TEXT NOT NULL DEFAULT '';
ALTER TABLE layers ADD COLUMN name TEXT NOT NULL DEFAULT '';

UPDATE layers SET (repository, publisher, name) = (o.repository, o.publisher, o.name) FROM (
    SELECT p.record, x.repository, x.publisher, p.name FROM packages p
    JOIN index_shards l ON l.shard = p.shard JOIN indexes x ON x.id = l.idx
    ORDER BY x.rank DESC, x.id DESC) AS o
WHERE o.record = layers.id;
