package store

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"stork/repo"
	"stork/repo/durable"
)

var errDisk = errors.New("disk error")

// nth fails the n-th step (from 0), once; after says that the step is done
// all the same.
type nth struct {
	mu    sync.Mutex
	left  int
	after bool
	fired bool
	armed bool
}

func (n *nth) fault(durable.Step, string) (before, after error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.armed || n.fired {
		return nil, nil
	}
	if n.left > 0 {
		n.left--
		return nil, nil
	}
	n.fired = true
	if n.after {
		return nil, errDisk
	}
	return errDisk, nil
}

// scenario is an operation on a store that holds a kept package, with the
// ready rows that the caller would have.
type scenario struct {
	name  string
	crash bool // reopen after the fault, instead of going on
	few   int  // fewSyncs
}

// TestFaults fails the k-th step of install and removal, in both flavours,
// until there are no more steps; then it goes on with the store that is open,
// or as after a crash.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, sc := range []scenario{
		{"go on, sync each", false, 1000}, {"crash, sync each", true, 1000},
		{"go on, syncfs", false, 0}, {"crash, syncfs", true, 0},
	} {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, done=%v", sc.name, after), func(t *testing.T) {
				t.Parallel()
				needRoot(t)
				for k := 0; ; k++ {
					if !sc.run(t, &nth{left: k, after: after}) {
						if k < 20 {
							t.Errorf("only %d steps", k)
						}
						return
					}
					if t.Failed() {
						t.Fatalf("with step %d failing", k)
					}
				}
			})
		}
	}
}

// run reports whether the fault came.
func (sc scenario) run(t *testing.T, n *nth) bool {
	dir := filepath.Join(fastDir(t), "store")
	s := open(t, dir, n.fault)
	defer func() { s.Close() }()
	s.fewSyncs = sc.few
	recovered(t, s, nil)
	kept, fresh := small(t, "kept", 3), faultPack(t)
	install(t, s, kept)
	rows := map[repo.Digest]string{kept.id: ""}

	n.armed = true
	sc.install(t, s, fresh, rows)
	if !n.fired {
		delete(rows, kept.id)
		if err := s.Remove(t.Context(), kept.id); err == nil && n.fired {
			t.Error("removal swallowed a fault")
		}
	}
	if sc.crash {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, nil)
		recovered(t, s, rows)
	} else if n.fired && rows[fresh.id] != "" {
		// Place and Remove leave what only takes room to the next start-up.
		recovered(t, s, rows)
	}
	var want []*pack
	for _, p := range []*pack{kept, fresh} {
		if _, ok := rows[p.id]; ok {
			want = append(want, p)
		}
	}
	mustBeSound(t, s, want...)
	return n.fired
}

// faultPack shares one file with the kept package, and has every kind of
// entry.
func faultPack(t *testing.T) *pack {
	return newPack(t,
		repo.File{Path: "/opt/new/dir", Type: repo.Dir, Mode: 0o555},
		repo.File{Path: "/opt/new/a", Mode: 0o755, Link: "new content"},
		repo.File{Path: "/opt/new/b", Mode: 0o755, Link: "new content", LinkTo: "/opt/new/a"},
		repo.File{Path: "/opt/new/link", Type: repo.Symlink, Mode: 0o777, Link: "a"},
		repo.File{Path: "/opt/new/shared", Mode: 0o644, Link: "content 1"},
		repo.File{Path: "/opt/new/dir/c", Mode: 0o600, Link: "more"},
		repo.File{Path: "/opt/new/large", Mode: 0o644, Link: strings.Repeat("large", largeFile/4)})
}

// install does what the nest does: stage, fill, commit the row, place.
func (sc scenario) install(t *testing.T, s *Store, p *pack, rows map[repo.Digest]string) {
	st, err := s.Stage()
	if err != nil {
		return
	}
	_, err = st.Fill(t.Context(), &p.list, isPrivate, p.unpacked(), nil)
	if err == nil {
		err = st.Sync(t.Context())
	}
	if err != nil {
		if !sc.crash {
			if err := st.Discard(); err != nil {
				t.Errorf("cannot discard: %v", err)
			}
		}
		return
	}
	rows[p.id] = st.Name()
	if err := st.Place(t.Context(), p.id); err != nil && !sc.crash {
		if err := st.Place(t.Context(), p.id); err != nil {
			t.Errorf("cannot place again: %v", err)
		}
	}
}

// TestFaultsInRecovery fails the k-th step of Recover over everything that it
// may find, and recovers again.
func TestFaultsInRecovery(t *testing.T) {
	t.Parallel()
	for _, after := range []bool{false, true} {
		t.Run(fmt.Sprintf("done=%v", after), func(t *testing.T) {
			t.Parallel()
			needRoot(t)
			for k := 0; recoverWithFault(t, &nth{left: k, after: after, armed: true}); k++ {
				if t.Failed() {
					t.Fatalf("with step %d failing", k)
				}
			}
		})
	}
}

func recoverWithFault(t *testing.T, n *nth) bool {
	dir := filepath.Join(fastDir(t), "store")
	s := open(t, dir, nil)
	recovered(t, s, nil)
	placed, waiting, unknown, staged := small(t, "placed", 2), small(t, "waiting", 3), small(t, "unknown", 4), small(t, "staged", 5)
	install(t, s, placed)
	install(t, s, unknown)
	st, _ := fill(t, s, waiting)
	fill(t, s, staged)
	rows := map[repo.Digest]string{placed.id: "gone", waiting.id: st.Name()}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s, err := Open(t.Context(), Options{Dir: dir, Disk: durable.Disk{Fault: n.fault}})
	if err == nil {
		_, err = s.Recover(t.Context(), rows)
	}
	// What only takes back room may fail without an error, and be left to
	// the next start-up; so in any case there is one.
	if s != nil {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err != nil && !errors.Is(err, errDisk) {
		t.Fatal(err)
	}
	s = open(t, dir, nil)
	defer s.Close()
	recovered(t, s, rows)
	mustBeSound(t, s, placed, waiting)
	return n.fired
}
