package repo

import (
	"fmt"
	"strconv"
	"strings"
)

// A repository is a tree of static files, and a nest shows the same tree to
// its guests. Paths have no leading slash. Only [TimestampPath] ever changes,
// and the next root and key document may appear; everything else is written
// once and never again.

// TimestampPath is the one file that changes.
const TimestampPath = "metadata/timestamp.json"

// MetadataPath is where a version of root, snapshot, targets or a delegated
// role is served.
func MetadataPath(role string, version int64) string {
	return "metadata/" + strconv.FormatInt(version, 10) + "." + role + ".json"
}

// KeyDocumentPath is where a version of a role's key document is served.
func KeyDocumentPath(role Role, version int64) string {
	return "keys/" + string(role) + "/" + strconv.FormatInt(version, 10) + ".json"
}

// DataPath is where index parts, records, file lists, policies and other
// documents are served.
func DataPath(d Digest) string { return fanOut(dataDir, d) }

const dataDir = "data/"

// IsDataPath reports whether a path is that of a document, which is named by
// its content and never changes.
func IsDataPath(path string) bool { return strings.HasPrefix(path, dataDir) }

// BlobPath is where package files are served.
func BlobPath(d Digest) string { return fanOut("blobs/", d) }

// PackPath is where all tables, then all shards of the index with root d are
// served, each document as it is, in one zstd stream: a shortcut for nests
// that have none of them.
func PackPath(d Digest) string { return fanOut("packs/", d) }

// FramesPath is where the contents of a package's files are offered one by
// one, for who has most of them: see package frames. D is the blob's digest.
func FramesPath(d Digest) string { return fanOut("frames/", d) }

// DeltaPath is where the delta to the index with root new is served, for who
// has the one with root old: see package delta.
func DeltaPath(old, new Digest) string { return fanOut(deltaDir, new) + "-" + old.Hex() }

// ParseDeltaPath returns both ends of a path that [DeltaPath] has made.
func ParseDeltaPath(path string) (old, new Digest, err error) {
	ends := strings.TrimPrefix(path, deltaDir)
	if slash := strings.IndexByte(ends, '/'); slash >= 0 {
		ends = ends[slash+1:]
	}
	first, second, _ := strings.Cut(ends, "-")
	if new, err = ParseHex(first); err == nil {
		old, err = ParseHex(second)
	}
	if err != nil || DeltaPath(old, new) != path {
		return Digest{}, Digest{}, fmt.Errorf("%q is not the path of a delta", path)
	}
	return old, new, nil
}

const deltaDir = "deltas/"

// fanOut keeps directories small: two hexadecimal digits, then all of them.
func fanOut(dir string, d Digest) string {
	h := d.Hex()
	return dir + h[:2] + "/" + h
}

// Sizes in bytes beyond which a metadata file is refused unread.
const (
	MaxTimestamp   = 64 << 10
	MaxRoot        = 1 << 20
	MaxSnapshot    = 32 << 20
	MaxTargets     = 32 << 20
	MaxRole        = 1 << 20
	MaxKeyDocument = 256 << 10
	MaxPolicy      = 4 << 20
	MaxBlob        = 64 << 30
)
