package store

import (
	"strings"
	"testing"

	"stork/repo"
)

// TestUsage divides what three users share by pairs and alone.
func TestUsage(t *testing.T) {
	t.Parallel()
	s := opened(t)
	block := strings.Repeat("x", 4096)
	all := newPack(t, repo.File{Path: "/a", Mode: 0o644, Link: block + "everybody's"}, repo.File{Path: "/etc/own", Mode: 0o644, Link: block, Flags: []repo.FileFlag{repo.Config}})
	two := newPack(t, repo.File{Path: "/b", Mode: 0o644, Link: block + "everybody's"}, repo.File{Path: "/c", Mode: 0o644, Link: block + "two's"})
	one := newPack(t, repo.File{Path: "/d", Mode: 0o644, Link: block + "one's"})
	for _, p := range []*pack{all, two, one} {
		install(t, s, p)
	}
	skip := func(_ repo.Digest, path string) bool { return path == "/etc/own" || path == "" || path == "/etc" }
	users := [][]repo.Digest{{all.id}, {all.id, two.id}, {two.id, one.id}, nil}
	division, err := s.Divide(t.Context(), users, skip)
	if err != nil {
		t.Fatal(err)
	}
	const file = 8192 // two blocks
	for _, test := range []struct {
		name    string
		groupOf func(int) int
		want    []Use
	}{
		// A third of 8192 leaves two bytes, which the first two have.
		{"users", func(i int) int { return i }, []Use{
			{file, 0, file/3 + 1},
			{2 * file, 0, file/3 + 1 + file/2},
			{3 * file, file, file/3 + file/2 + file},
			{},
		}},
		{"two and two", func(i int) int { return i / 2 }, []Use{
			{2 * file, 0, file / 2 * 2},
			{3 * file, file, file/2*2 + file},
		}},
		{"all", func(int) int { return 0 }, []Use{{3 * file, 3 * file, 3 * file}}},
	} {
		got := division.Among(len(test.want), test.groupOf)
		for i, want := range test.want {
			if got[i].Disk != want {
				t.Errorf("%s, %d: %+v, want %+v", test.name, i, got[i].Disk, want)
			}
			if got[i].Cache != want { // all of it was just written
				t.Errorf("%s, %d, cache: %+v, want %+v", test.name, i, got[i].Cache, want)
			}
		}
	}
	disk, cache := division.Unused()
	if cache != file/2 { // the private one
		t.Errorf("nobody has %d bytes of the page cache, want %d", cache, file/2)
	}
	if disk < file/2 { // and directories, where they take blocks
		t.Errorf("nobody has %d bytes on disk, want %d at least", disk, file/2)
	}
}
