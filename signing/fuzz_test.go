package signing

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"stork/repo"
)

// seeds are the golden vectors of one kind, whole and damaged.
func seeds(f *testing.F, pattern string) {
	paths, err := filepath.Glob(filepath.Join("testdata", pattern))
	if err != nil || len(paths) == 0 {
		f.Fatalf("no seeds %s: %v", pattern, err)
	}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(b[:len(b)/2])
	}
	f.Add([]byte(`{"signed":{"_type":"root","keys":{"a":null},"roles":{"root":null}},"signatures":[]}`))
	f.Add([]byte(`{"signed":{"_type":"targets","targets":{"a/index/b":null}},"signatures":null}`))
}

func FuzzParseKeyDocument(f *testing.F) {
	seeds(f, "*.key-document.json")
	f.Fuzz(func(t *testing.T, b []byte) {
		doc, err := ParseKeyDocument(b)
		if err != nil {
			return
		}
		if doc.Version < 1 || doc.Daily.Threshold < 1 || len(doc.Master.IDs) < doc.Master.Threshold || doc.Digest != repo.DigestOf(b) {
			t.Errorf("accepted %+v", doc)
		}
	})
}

func FuzzParseRole(f *testing.F) {
	seeds(f, "*.role.json")
	f.Fuzz(func(t *testing.T, b []byte) {
		role, err := ParseRole(b)
		if err != nil {
			return
		}
		for name, object := range role.Targets {
			if CheckTarget(role.Role, name) != nil || object.Size < 0 || object.Digest.IsZero() && name == "" {
				t.Errorf("accepted target %s of %s", name, role.Role)
			}
		}
	})
}

func FuzzReadDelegations(f *testing.F) {
	seeds(f, "targets.json")
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := ReadDelegations(b)
		if err != nil {
			return
		}
		for _, d := range all {
			if d.Version < 1 || d.Keys.Threshold < 1 || len(d.Keys.IDs) < d.Keys.Threshold {
				t.Errorf("accepted %+v", d)
			}
		}
	})
}

// FuzzRefresh gives a client one hostile file of a true repository: it must
// refuse or accept, and never fall over.
func FuzzRefresh(f *testing.F) {
	seeds(f, "targets.json")
	tree := os.DirFS(filepath.Join("testdata", "tree"))
	first, err := fs.ReadFile(tree, "metadata/1.root.json")
	if err != nil {
		f.Fatal(err)
	}
	now := func() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }
	names := []string{repo.TimestampPath, repo.MetadataPath("root", 2), repo.MetadataPath("snapshot", 4), repo.MetadataPath("targets", 2)}
	for i, name := range names {
		if b, err := fs.ReadFile(tree, name); err == nil {
			f.Add(append([]byte{byte(i)}, b...))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 {
			return
		}
		c, err := Open(Options{Dir: t.TempDir(), Root: repo.DigestOf(first), Now: now})
		if err != nil {
			t.Fatal(err)
		}
		src := replaced{Dir(filepath.Join("testdata", "tree")), names[int(b[0])%len(names)], b[1:]}
		if s, err := c.Refresh(context.Background(), src); err == nil {
			if s.Version() < 1 {
				t.Errorf("accepted timestamp version %d", s.Version())
			}
		}
	})
}

// replaced is a source in which one file has other content.
type replaced struct {
	Source
	path    string
	content []byte
}

func (r replaced) Fetch(ctx context.Context, path string, max int64) ([]byte, error) {
	if path == r.path {
		return r.content, nil
	}
	return r.Source.Fetch(ctx, path, max)
}
