package nest

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"stork/nestd/api"
	"stork/nestd/internal/state"
	"stork/repo"
)

// BenchmarkEnvironment measures what the nest does for a guest with 400
// packages of 120 files each, all but the mounts: the environment whole, the
// same for another guest, and after one package of 20 files more or less.
func BenchmarkEnvironment(b *testing.B) {
	n := benchNest(b)
	ctx := context.Background()
	var ids []repo.Digest
	for i := range 401 {
		files := 120
		if i == 400 {
			files = 20
		}
		ids = append(ids, benchLayer(b, n, i, files))
	}
	for _, guest := range []string{"g1", "g2"} {
		_, err := n.AddGuest(ctx, api.GuestRequest{Name: guest, Owner: repo.DigestOf([]byte("owner"))})
		must(b, err)
		must(b, n.State.Entitle(ctx, guest, ids))
	}
	ask := func(guest string, ids []repo.Digest, trees int) {
		stack, err := environment(n, guest, api.EnvironmentRequest{Packages: ids, View: "/view"})
		must(b, err)
		if len(stack) != trees {
			b.Fatalf("%d trees, want %d", len(stack), trees)
		}
	}
	forget := func(guest string) {
		must(b, n.State.KeepEnvironments(ctx, guest, nil))
		must(b, n.dropTrees(ctx))
	}
	measure := func(name string, before, act func()) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				before()
				b.StartTimer()
				act()
			}
		})
	}
	measure("whole", func() { forget("g1") }, func() { ask("g1", ids[:400], 1) })
	measure("second", func() { forget("g2") }, func() { ask("g2", ids[:400], 1) })
	measure("add", func() { forget("g2") }, func() { ask("g2", ids, 2) })
	forget("g2")
	forget("g1")
	ask("g1", ids, 1)
	measure("drop", func() { forget("g2") }, func() { ask("g2", ids[:400], 2) })
}

// benchNest is a nest without packages.
func benchNest(b *testing.B) *Nest {
	o := newOrigin(b)
	n, err := openNestAt(context.Background(), b.TempDir(), o.pin(), noFaults, io.Discard)
	must(b, err)
	b.Cleanup(func() { must(b, n.Close()) })
	return n
}

// benchLayer makes a layer without a package. A tenth of its files lies in
// directories that all layers have.
func benchLayer(b *testing.B, n *Nest, number, files int) repo.Digest {
	list := repo.FileList{Format: repo.FileListFormat}
	source := &benchSource{content: map[string]string{}}
	for i := range files {
		path := fmt.Sprintf("/usr/share/p%04d/%02d/f%03d", number, i%8, i)
		if i%10 == 0 {
			path = fmt.Sprintf("/usr/%s/p%04d-%03d", []string{"bin", "lib", "include"}[i/10%3], number, i)
		}
		content := fmt.Sprintf("%d of %d", i, number)
		source.content[path] = content
		list.Files = append(list.Files, repo.File{
			Path: path, Type: repo.Regular, Mode: 0o644, Size: int64(len(content)), Digest: repo.DigestOf([]byte(content)),
		})
	}
	slices.SortFunc(list.Files, func(a, b repo.File) int { return strings.Compare(a.Path, b.Path) })
	text, manifest, err := list.Encode()
	must(b, err)
	must(b, n.documents.store(manifest.Digest, text))
	source.files = list.Files
	stage, err := n.Store.Stage()
	must(b, err)
	_, err = stage.Fill(context.Background(), &list, n.Private, source, nil)
	must(b, err)
	must(b, stage.Sync(context.Background()))
	layer := state.Layer{ID: repo.DigestOf([]byte(fmt.Sprint("layer ", number))), Staging: stage.Name(), Manifest: repo.Object{Digest: manifest.Digest, Size: manifest.Size}}
	must(b, n.State.AddLayer(context.Background(), layer, nil))
	must(b, stage.Place(context.Background(), layer.ID))
	return layer.ID
}

// benchSource is a store.Source of what a list has.
type benchSource struct {
	strings.Reader
	files   []repo.File
	content map[string]string
	next    int
}

func (s *benchSource) Next() (index int, size int64, err error) {
	if s.next == len(s.files) {
		return 0, 0, io.EOF
	}
	f := s.files[s.next]
	s.Reset(s.content[f.Path])
	s.next++
	return s.next - 1, f.Size, nil
}
