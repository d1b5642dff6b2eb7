package store

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"testing"

	"stork/repo"
)

// TestHostileSources sends what an exploited unpacker might. Fill must refuse,
// and Discard leave nothing.
func TestHostileSources(t *testing.T) {
	t.Parallel()
	errSource := errors.New("the source failed")
	large := strings.Repeat("x", largeFile)
	tests := []struct {
		name string
		harm func(f *files)
		want string
	}{
		{"other content", func(f *files) { f.rest[1].content = "CONTENT 1" }, "the file list has sha256:"},
		{"other content of a large file", func(f *files) { f.rest[3].content = "y" + large[1:] }, "the file list has sha256:"},
		{"longer", func(f *files) { f.rest[1] = file{1, 18, "content 1 and more"} }, "it has 18 bytes"},
		{"shorter", func(f *files) { f.rest[1] = file{1, 3, "con"} }, "it has 3 bytes"},
		{"ends early", func(f *files) { f.rest[1].content = "con" }, "ends after 3 of 9 bytes"},
		{"large one ends early", func(f *files) { f.rest[3].content = large[1:] }, "ends after 262143 of 262144 bytes"},
		{"missing", func(f *files) { f.rest = f.rest[1:] }, "lacks 1 of the listed files"},
		{"all missing", func(f *files) { f.rest = nil }, "lacks 4 of the listed files"},
		{"twice", func(f *files) { f.rest[2] = f.rest[1] }, "has it twice"},
		{"one too many", func(f *files) { f.rest = append(f.rest, file{index: 99}) }, "not in the list"},
		{"negative", func(f *files) { f.rest[2].index = -1 }, "not in the list"},
		{"error", func(f *files) { f.rest, f.err = f.rest[:2], errSource }, errSource.Error()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := opened(t)
			p := newPack(t,
				repo.File{Path: "/opt/0", Mode: 0o644, Link: "content 0"}, repo.File{Path: "/opt/1", Mode: 0o644, Link: "content 1"},
				repo.File{Path: "/opt/2", Mode: 0o644, Link: "content 2"}, repo.File{Path: "/opt/3", Mode: 0o644, Link: large})
			st, source := stage(t, s), p.unpacked()
			tt.harm(source)
			_, err := st.Fill(t.Context(), &p.list, isPrivate, source, nil)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("fill: %v, want an error with %q", err, tt.want)
			}
			if got, want := errors.Is(err, ErrContent), !errors.Is(err, errSource); got != want {
				t.Errorf("fill: %v is %v: %v, want %v", err, ErrContent, got, want)
			}
			if err := st.Discard(); err != nil {
				t.Fatal(err)
			}
			mustBeSound(t, s)
		})
	}
}

// unread is a Source whose content nobody may ask for.
type unread struct {
	*files
	t *testing.T
}

// Read implements [io.Reader].
func (u unread) Read([]byte) (int, error) {
	u.t.Error("content was read that the store has")
	return 0, io.ErrUnexpectedEOF
}

// TestKnownLargeFile says that a large file which the store has is neither
// written nor read.
func TestKnownLargeFile(t *testing.T) {
	t.Parallel()
	s, large := opened(t), strings.Repeat("x", largeFile)
	first := newPack(t, repo.File{Path: "/opt/1", Mode: 0o644, Link: large})
	second := newPack(t, repo.File{Path: "/opt/2", Mode: 0o644, Link: large})
	install(t, s, first)
	st := stage(t, s)
	result, err := st.Fill(t.Context(), &second.list, isPrivate, unread{second.unpacked(), t}, nil)
	if want := (Result{Shared: largeFile}); err != nil || result != want {
		t.Fatalf("%+v, %v; want %+v", result, err, want)
	}
	if err := st.Place(t.Context(), second.id); err == nil {
		t.Error("placed before it was durable")
	}
	if err := st.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := st.Place(t.Context(), second.id); err != nil {
		t.Fatal(err)
	}
	mustBeSound(t, s, first, second)
}

func TestCancelledFill(t *testing.T) {
	t.Parallel()
	s, p := opened(t), small(t, "p", 50)
	st := stage(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	_, err := st.Fill(ctx, &p.list, isPrivate, p.unpacked(), func(int64, int64) {
		if calls++; calls == 10 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("fill: %v, want %v", err, context.Canceled)
	}
	if err := st.Discard(); err != nil {
		t.Fatal(err)
	}
	mustBeSound(t, s)
}

// TestConcurrentFills lets packages with the same files come and go at the
// same time.
func TestConcurrentFills(t *testing.T) {
	t.Parallel()
	s := opened(t)
	var packs []*pack
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		packs = append(packs, small(t, name, 40))
	}
	each(packs, func(p *pack) { install(t, s, p) })
	mustBeSound(t, s, packs...)
	if objects, _ := s.CheckObjects(t.Context()); objects != 40 {
		t.Errorf("%d objects, want 40", objects)
	}
	for range 3 {
		each(packs, func(p *pack) {
			if err := s.Remove(t.Context(), p.id); err != nil {
				t.Error(err)
			}
			st, _ := fill(t, s, p)
			if err := st.Discard(); err != nil {
				t.Error(err)
			}
			install(t, s, p)
		})
		mustBeSound(t, s, packs...)
	}
	each(packs, func(p *pack) {
		if err := s.Remove(t.Context(), p.id); err != nil {
			t.Error(err)
		}
	})
	mustBeSound(t, s)
}

// each runs work for all packages at once.
func each(packs []*pack, work func(*pack)) {
	var wait sync.WaitGroup
	for _, p := range packs {
		wait.Go(func() { work(p) })
	}
	wait.Wait()
}

// TestDamagedObject says that an object which is not what its name says is
// not given to another package.
func TestDamagedObject(t *testing.T) {
	t.Parallel()
	s := opened(t)
	first := newPack(t, repo.File{Path: "/a", Mode: 0o644, Link: "x"})
	second := newPack(t, repo.File{Path: "/b", Mode: 0o644, Link: "x"})
	install(t, s, first)
	layer, _ := s.Layer(first.id)
	if err := os.Chmod(layer+"/a", 0o666); err != nil {
		t.Fatal(err)
	}
	install(t, s, second)
	if found := s.Check(t.Context(), second.id, &second.list, isPrivate); len(found) != 0 {
		t.Errorf("second layer: %q", found)
	}
	if found := s.Check(t.Context(), first.id, &first.list, isPrivate); len(found) != 2 {
		t.Errorf("first layer: %q, want wrong mode and not its object", found)
	}
}
