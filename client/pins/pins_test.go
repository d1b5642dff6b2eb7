package pins_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"stork/client/pins"
	"stork/nestd/api"
	"stork/repo"
	"stork/repo/durable"
)

var (
	rootA = repo.DigestOf([]byte("a"))
	rootB = repo.DigestOf([]byte("b"))
	owner = repo.DigestOf([]byte("owner"))
)

func TestAdoptCopiesOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	offered, own := filepath.Join(dir, "offered.json"), filepath.Join(dir, "etc", "pins.json")
	first := &api.Pins{Owner: owner, Repositories: []api.RepositoryPin{{Root: rootA, URL: "http://a.example"}}}
	if err := pins.Save(durable.Disk{}, offered, first); err != nil {
		t.Fatal(err)
	}
	got, adopted, err := pins.Adopt(durable.Disk{}, own, offered)
	if err != nil || !adopted {
		t.Fatalf("first use: got adopted %v, error %v", adopted, err)
	}
	if diff := cmp.Diff(first, got); diff != "" {
		t.Error(diff)
	}
	second := &api.Pins{Owner: rootB, Repositories: []api.RepositoryPin{{Root: rootB, URL: "http://evil.example"}}}
	if err := pins.Save(durable.Disk{}, offered, second); err != nil {
		t.Fatal(err)
	}
	got, adopted, err = pins.Adopt(durable.Disk{}, own, offered)
	if err != nil || adopted {
		t.Fatalf("second use: got adopted %v, error %v", adopted, err)
	}
	if diff := cmp.Diff(first, got); diff != "" {
		t.Errorf("the nest replaced the pins: %s", diff)
	}
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	digest := rootA.String()
	for name, text := range map[string]string{
		"unknown field":  `{"format":1,"owner":"` + digest + `","repositories":[],"more":1}`,
		"unknown format": `{"format":2,"owner":"` + digest + `","repositories":[]}`,
		"trailing data":  `{"format":1,"owner":"` + digest + `","repositories":[]}{}`,
		"bad digest":     `{"format":1,"owner":"sha256:00","repositories":[]}`,
		"no scheme":      `{"format":1,"owner":"` + digest + `","repositories":[{"root":"` + digest + `","url":"host"}]}`,
		"file scheme":    `{"format":1,"owner":"` + digest + `","repositories":[{"root":"` + digest + `","url":"file:///etc"}]}`,
		"no root":        `{"format":1,"owner":"` + digest + `","repositories":[{"url":"http://h"}]}`,
		"twice": `{"format":1,"owner":"` + digest + `","repositories":[{"root":"` + digest + `","url":"http://h"},` +
			`{"root":"` + digest + `","url":"http://i"}]}`,
		"empty": ``,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "pins.json")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if p, err := pins.Load(path); err == nil {
				t.Errorf("got %+v, want an error", p)
			}
		})
	}
	if _, err := pins.Load(filepath.Join(t.TempDir(), "absent")); !errors.Is(err, pins.ErrNone) {
		t.Errorf("absent file: got %v, want ErrNone", err)
	}
}

func TestAddAndRemove(t *testing.T) {
	t.Parallel()
	p := new(api.Pins)
	for _, pin := range []api.RepositoryPin{{Root: rootA, URL: "http://a"}, {Root: rootB, URL: "http://b"}, {Root: rootA, URL: "http://a2"}} {
		if err := pins.Add(p, pin); err != nil {
			t.Fatal(err)
		}
	}
	if err := pins.Add(p, api.RepositoryPin{Root: owner, URL: "http://b"}); err == nil {
		t.Error("another root at a pinned address was accepted")
	}
	want := []api.RepositoryPin{{Root: rootA, URL: "http://a2"}, {Root: rootB, URL: "http://b"}}
	if diff := cmp.Diff(want, p.Repositories); diff != "" {
		t.Error(diff)
	}
	if err := pins.Remove(p, rootA.String()); err != nil {
		t.Error(err)
	}
	if err := pins.Remove(p, "http://a2"); err == nil {
		t.Error("removing it twice succeeded")
	}
}
