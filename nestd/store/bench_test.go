package store

import (
	"fmt"
	"strings"
	"testing"

	"stork/repo"
)

// BenchmarkFill measures Fill and Place, without unpacking: new, every file
// makes an object; known, the store has all of them.
func BenchmarkFill(b *testing.B) {
	for _, files := range []int{20, 10000} {
		p := benchPack(b, files)
		for _, known := range []bool{false, true} {
			name := map[bool]string{false: "new", true: "known"}[known]
			b.Run(fmt.Sprintf("%s/%d", name, files), func(b *testing.B) { benchFill(b, p, known) })
		}
	}
}

func benchPack(b *testing.B, n int) *pack {
	files := make([]repo.File, n)
	for i := range files {
		files[i] = repo.File{Path: fmt.Sprintf("/opt/bench/%02d/%05d", i%100, i), Mode: 0o644, Link: strings.Repeat(fmt.Sprintf("%05d\n", i), 300)}
	}
	list := repo.FileList{Format: 1, Files: files}
	if _, _, err := list.Encode(); err != nil { // sorts
		b.Fatal(err)
	}
	return newPack(b, list.Files...)
}

func benchFill(b *testing.B, p *pack, known bool) {
	s := opened(b)
	other := newPack(b, append([]repo.File{{Path: "/also", Mode: 0o600}}, withContent(p)...)...)
	if known {
		install(b, s, other)
	}
	for b.Loop() {
		b.StopTimer()
		st, source := stage(b, s), p.unpacked()
		b.StartTimer()
		if _, err := st.Fill(b.Context(), &p.list, isPrivate, source, nil); err != nil {
			b.Fatal(err)
		}
		if err := st.Sync(b.Context()); err != nil {
			b.Fatal(err)
		}
		if err := st.Place(b.Context(), p.id); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := s.Remove(b.Context(), p.id); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func withContent(p *pack) []repo.File {
	files := make([]repo.File, len(p.list.Files))
	for i, f := range p.list.Files {
		f.Link, f.Digest, f.Size = p.content[f.Path], repo.Digest{}, 0
		files[i] = f
	}
	return files
}
