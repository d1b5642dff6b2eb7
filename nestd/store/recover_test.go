package store

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"stork/repo"
)

// TestRecover leaves what crashes leave, between any two steps of an install
// or a removal, and looks at what start-up makes of it.
func TestRecover(t *testing.T) {
	t.Parallel()
	needRoot(t)
	p := small(t, "p", 4)
	tests := []struct {
		name  string
		leave func(t *testing.T, s *Store) map[repo.Digest]string
		want  bool // the layer is there afterwards
		lost  bool
	}{
		{"half filled", func(t *testing.T, s *Store) map[repo.Digest]string {
			st := stage(t, s)
			source := p.unpacked()
			source.err = errDisk
			source.rest = source.rest[:2]
			if _, err := st.Fill(t.Context(), &p.list, isPrivate, source, nil); !errors.Is(err, errDisk) {
				t.Fatal(err)
			}
			return nil
		}, false, false},
		{"filled without a row", func(t *testing.T, s *Store) map[repo.Digest]string {
			fill(t, s, p)
			return nil
		}, false, false},
		{"row without its place", func(t *testing.T, s *Store) map[repo.Digest]string {
			st, _ := fill(t, s, p)
			return map[repo.Digest]string{p.id: st.Name()}
		}, true, false},
		{"placed", func(t *testing.T, s *Store) map[repo.Digest]string {
			install(t, s, p)
			return map[repo.Digest]string{p.id: ""}
		}, true, false},
		{"row removed, layer there", func(t *testing.T, s *Store) map[repo.Digest]string {
			install(t, s, p)
			return nil
		}, false, false},
		{"in the trash", func(t *testing.T, s *Store) map[repo.Digest]string {
			install(t, s, p)
			if _, err := s.toTrash(p.id); err != nil {
				t.Fatal(err)
			}
			return nil
		}, false, false},
		{"tree removed, objects there", func(t *testing.T, s *Store) map[repo.Digest]string {
			install(t, s, p)
			trash, err := s.toTrash(p.id)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(filepath.Join(trash, treeName)); err != nil {
				t.Fatal(err)
			}
			return nil
		}, false, false},
		{"row of a layer that is nowhere", func(*testing.T, *Store) map[repo.Digest]string {
			return map[repo.Digest]string{p.id: "neverwas"}
		}, false, true},
		{"row that names a path", func(t *testing.T, s *Store) map[repo.Digest]string {
			st, _ := fill(t, s, p)
			return map[repo.Digest]string{p.id: "../staging/" + st.Name()}
		}, false, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir, other := fastDir(t), small(t, "other", 2)
			s := open(t, dir, nil)
			recovered(t, s, nil)
			install(t, s, other)
			rows := tt.leave(t, s)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if rows == nil {
				rows = map[repo.Digest]string{}
			}
			rows[other.id] = ""

			s = open(t, dir, nil)
			defer s.Close()
			lost, err := s.Recover(t.Context(), rows)
			if err != nil {
				t.Fatal(err)
			}
			if got := slices.Contains(lost, p.id); got != tt.lost {
				t.Errorf("lost is %v, want %v", got, tt.lost)
			}
			want := []*pack{other}
			if tt.want {
				want = append(want, p)
			}
			mustBeSound(t, s, want...)
		})
	}
}
