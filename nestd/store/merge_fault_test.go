package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"stork/repo"
	"stork/repo/durable"
)

// TestMergeFaults fails the k-th step of making and removing a delta tree, in
// both flavours, until there are no more steps; then it goes on with the
// store that is open, or as after a crash.
func TestMergeFaults(t *testing.T) {
	t.Parallel()
	for _, sc := range []scenario{
		{"go on, sync each", false, 1000}, {"crash, sync each", true, 1000}, {"crash, syncfs", true, 0},
	} {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, done=%v", sc.name, after), func(t *testing.T) {
				t.Parallel()
				needRoot(t)
				for k := 0; ; k++ {
					if !sc.merge(t, &nth{left: k, after: after}) {
						if k < 15 {
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

// merge reports whether the fault came. What is there afterwards must be what
// there are rows for.
func (sc scenario) merge(t *testing.T, n *nth) bool {
	dir := filepath.Join(fastDir(t), "store")
	s := open(t, dir, n.fault)
	defer func() { s.Close() }()
	s.fewSyncs = sc.few
	recovered(t, s, nil)
	kept, gone, fresh := small(t, "kept", 2), small(t, "gone", 2), faultPack(t)
	installed(t, s, kept, gone, fresh)
	base := merged(t, s, "base", Merge{Add: membersOf(kept, gone)})
	delta := &tree{id: repo.DigestOf([]byte("delta")), merge: Merge{
		Base: []repo.Digest{base.id}, Keep: membersOf(kept), Drop: membersOf(gone), Add: membersOf(fresh),
	}}
	rows := map[repo.Digest]string{kept.id: "", gone.id: "", fresh.id: "", base.id: ""}

	n.armed = true
	sc.makeTree(t, s, delta, rows)
	if !n.fired && rows[delta.id] != "" {
		delete(rows, delta.id)
		if err := s.Remove(t.Context(), delta.id); err == nil && n.fired {
			t.Error("removal swallowed a fault")
		}
	}
	if sc.crash {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, nil)
		recovered(t, s, rows)
	} else if n.fired {
		recovered(t, s, rows)
	}
	trees := []*tree{base}
	if _, ok := rows[delta.id]; ok {
		trees = append(trees, delta)
	}
	for _, tr := range trees {
		for _, problem := range s.CheckMerged(t.Context(), tr.id, tr.merge) {
			t.Error(problem)
		}
	}
	mustHave(t, s, trees, kept, gone, fresh)
	return n.fired
}

// makeTree does what the nest does: stage, merge, commit the row, place.
func (sc scenario) makeTree(t *testing.T, s *Store, tr *tree, rows map[repo.Digest]string) {
	st, err := s.Stage()
	if err != nil {
		return
	}
	if _, err := st.Merge(t.Context(), tr.merge); err != nil {
		if !errors.Is(err, errDisk) {
			t.Errorf("the fault is not the cause of %v", err)
		}
		if !sc.crash {
			if err := st.Discard(); err != nil {
				t.Errorf("cannot discard: %v", err)
			}
		}
		return
	}
	rows[tr.id] = st.Name()
	if err := st.Place(t.Context(), tr.id); err != nil && !sc.crash {
		if err := st.Place(t.Context(), tr.id); err != nil {
			t.Errorf("cannot place again: %v", err)
		}
	}
}

// mustHave fails the test if the store has other trees than these, or layers
// or objects that are not right.
func mustHave(t *testing.T, s *Store, trees []*tree, packs ...*pack) {
	t.Helper()
	ids, err := s.Layers()
	if err != nil {
		t.Fatal(err)
	}
	if len(ids) != len(trees)+len(packs) {
		t.Errorf("%d trees, want %d", len(ids), len(trees)+len(packs))
	}
	for _, p := range packs {
		for _, problem := range s.Check(t.Context(), p.id, &p.list, isPrivate) {
			t.Error(problem)
		}
	}
	if _, problems := s.CheckObjects(t.Context()); len(problems) > 0 {
		t.Error(problems)
	}
}

// TestMergeLinkLimit: when a layer's inode has no more links to give, the
// object is asked; when that has none either, another copy of it is made, and
// is the same to those who merge later.
func TestMergeLinkLimit(t *testing.T) {
	t.Parallel()
	s := opened(t)
	p, q := newPack(t, regular("/x", "x")), newPack(t, regular("/x", "x"), regular("/y", "y"))
	installed(t, s, p, q)
	object := planOf(&p.list, isPrivate).units[0].identity()
	var trees []*tree
	for failing := 1; failing <= 2; failing++ {
		left := failing
		s.disk.Fault = func(step durable.Step, path string) (before, after error) {
			if step == durable.StepLink && filepath.Base(path) == "x" && left > 0 {
				left--
				return unix.EMLINK, nil
			}
			return nil, nil
		}
		trees = append(trees, merged(t, s, fmt.Sprint(failing), Merge{Add: membersOf(p)}))
		var copied, linked unix.Stat_t
		if err := unix.Lstat(s.objectPath(object, failing-1), &copied); err != nil {
			t.Fatal(err)
		}
		if err := unix.Lstat(s.layerPath(trees[failing-1].id)+"/x", &linked); err != nil || linked.Ino != copied.Ino {
			t.Errorf("after %d failures the tree has inode %d (%v), want %d", failing, linked.Ino, err, copied.Ino)
		}
	}
	s.disk.Fault = nil
	// The copy is no conflict, and nothing that a delta tree must repeat.
	m := Merge{Base: idsOf(trees[1:]), Keep: membersOf(p), Add: membersOf(q)}
	trees = append(trees, merged(t, s, "delta", m))
	if diff := cmp.Diff([]string{"/y"}, paths(walked(t, s.layerPath(trees[2].id)))); diff != "" {
		t.Errorf("delta tree (-want +got):\n%s", diff)
	}
	mustHave(t, s, trees, p, q)
}

// TestMergeCancel: a merge for which nobody waits any more ends, and leaves
// nothing.
func TestMergeCancel(t *testing.T) {
	t.Parallel()
	s := opened(t)
	p := small(t, "p", 500)
	installed(t, s, p)
	ctx, cancel := context.WithCancel(t.Context())
	links := 0
	s.disk.Fault = func(step durable.Step, _ string) (before, after error) {
		if step == durable.StepMkdir {
			links++
		}
		if links == 2 {
			cancel()
		}
		return nil, nil
	}
	st, err := s.Stage()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Merge(ctx, Merge{Add: membersOf(p)}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want canceled", err)
	}
	if err := st.Discard(); err != nil {
		t.Fatal(err)
	}
	mustBeSound(t, s, p)
}
