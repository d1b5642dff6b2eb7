package store

import (
	"fmt"
	"testing"

	"stork/repo"
)

// BenchmarkMerge measures the merged trees of an environment of 400 packages
// with 120 files each: whole, and after one package of 20 files more or less.
// A tenth of the files lies in three directories that all packages have.
func BenchmarkMerge(b *testing.B) {
	s := openedIn(b, b.TempDir())
	var packs []*pack
	for n := range 400 {
		p := environmentPack(b, n, 120)
		install(b, s, p)
		packs = append(packs, p)
	}
	extra := environmentPack(b, 1000, 20)
	install(b, s, extra)
	all := membersOf(packs...)
	base := merged(b, s, "base", Merge{Add: all})
	with := merged(b, s, "with", Merge{Add: append(membersOf(extra), all...)})
	b.Run("whole", func(b *testing.B) { benchMerge(b, s, Merge{Add: all}, 48000) })
	b.Run("add", func(b *testing.B) {
		benchMerge(b, s, Merge{Base: []repo.Digest{base.id}, Keep: all, Add: membersOf(extra)}, 20)
	})
	b.Run("drop", func(b *testing.B) {
		benchMerge(b, s, Merge{Base: []repo.Digest{with.id}, Keep: all, Drop: membersOf(extra)}, 3)
	})
}

func environmentPack(b *testing.B, n, files int) *pack {
	var list []repo.File
	for i := range files {
		path := fmt.Sprintf("/usr/share/p%04d/%02d/f%03d", n, i%8, i)
		switch {
		case i < files/30:
			path = fmt.Sprintf("/usr/bin/p%04d-%03d", n, i)
		case i < files/15:
			path = fmt.Sprintf("/usr/lib/p%04d-%03d", n, i)
		case i < files/10:
			path = fmt.Sprintf("/usr/share/man/p%04d-%03d", n, i)
		}
		list = append(list, repo.File{Path: path, Mode: 0o644, Link: fmt.Sprintf("%d of %d", i, n)})
	}
	sorted := repo.FileList{Format: 1, Files: list}
	if _, _, err := sorted.Encode(); err != nil {
		b.Fatal(err)
	}
	return newPack(b, sorted.Files...)
}

func benchMerge(b *testing.B, s *Store, m Merge, want int) {
	id := repo.DigestOf([]byte("benchmark"))
	for b.Loop() {
		st := stage(b, s)
		result, err := st.Merge(b.Context(), m)
		if err != nil {
			b.Fatal(err)
		}
		if err := st.Place(b.Context(), id); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if result.Entries() != want {
			b.Fatalf("%+v, want %d entries", result, want)
		}
		if err := s.Remove(b.Context(), id); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
