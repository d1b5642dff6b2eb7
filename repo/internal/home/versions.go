package home

import (
	"encoding/json"
	"fmt"
	"time"

	"stork/repo"
)

// Versions are what readers see at one moment.
type Versions struct {
	Timestamp int64
	Snapshot  int64
	Expires   time.Time        // of the timestamp
	Roles     map[string]int64 // targets and every delegated role that has published
}

// meta is the part of TUF metadata that says what follows.
type meta struct {
	Signed struct {
		Expires time.Time `json:"expires"`
		Version int64     `json:"version"`
		Meta    map[string]struct {
			Version int64 `json:"version"`
		} `json:"meta"`
	} `json:"signed"`
}

// Versions reads which versions the timestamp in the tree names. It verifies
// nothing: this is the repository's own disk.
func (h *Home) Versions() (Versions, error) {
	timestamp, err := h.readMeta(repo.TimestampPath, repo.MaxTimestamp)
	if err != nil {
		return Versions{}, err
	}
	v := Versions{
		Timestamp: timestamp.Signed.Version, Expires: timestamp.Signed.Expires,
		Snapshot: timestamp.Signed.Meta["snapshot.json"].Version, Roles: map[string]int64{},
	}
	snapshot, err := h.readMeta(repo.MetadataPath("snapshot", v.Snapshot), repo.MaxSnapshot)
	if err != nil {
		return Versions{}, err
	}
	for name, file := range snapshot.Signed.Meta {
		v.Roles[name[:max(0, len(name)-len(".json"))]] = file.Version
	}
	return v, nil
}

func (h *Home) readMeta(path string, max int64) (*meta, error) {
	m := new(meta)
	b, err := readBounded(h.TreePath(path), max)
	if err == nil {
		err = json.Unmarshal(b, m)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, err)
	}
	return m, nil
}
