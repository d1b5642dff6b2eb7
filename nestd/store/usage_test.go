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
	got, err := s.UsageOf(t.Context(), [][]repo.Digest{{all.id}, {all.id, two.id}, {two.id, one.id}, nil}, skip)
	if err != nil {
		t.Fatal(err)
	}
	const file = 8192 // two blocks
	want := []Use{
		{file, 0, file / 3},
		{2 * file, 0, file/3 + file/2},
		{3 * file, file, file/3 + file/2 + file},
		{},
	}
	for i := range want {
		if got[i].Disk != want[i] {
			t.Errorf("user %d: %+v, want %+v", i, got[i].Disk, want[i])
		}
		if got[i].Cache != want[i] { // all of it was just written
			t.Errorf("user %d, cache: %+v, want %+v", i, got[i].Cache, want[i])
		}
	}
}
