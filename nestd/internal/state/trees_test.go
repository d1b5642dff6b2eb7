package state

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"stork/repo"
)

func named(name string) repo.Digest { return repo.DigestOf([]byte(name)) }

// addTree adds a tree of that name, whose environment is named after it.
func addTree(t testing.TB, s *State, name, base string, aliases map[string]string) Tree {
	t.Helper()
	tree := Tree{
		ID: named(name), Environment: named("environment " + name), Staging: "stage " + name, Aliases: aliases,
		Layers: []repo.Digest{named("a"), named("b")}, Entries: 3,
	}
	if base != "" {
		below := named(base)
		tree.Base = &below
	}
	must(t, s.AddTree(ctx, tree))
	return tree
}

func TestTrees(t *testing.T) {
	t.Parallel()
	s := open(t)
	must(t, s.AddGuest(ctx, Guest{Name: "g1", Owner: named("owner")}))
	aliases := map[string]string{"/bin": "/usr/bin", "/lib": "/usr/lib"}
	whole := addTree(t, s, "whole", "", aliases)
	delta := addTree(t, s, "delta", "whole", aliases)
	other := addTree(t, s, "other", "", map[string]string{})
	if err := s.AddTree(ctx, whole); !errors.Is(err, ErrExists) {
		t.Errorf("adding twice: got %v, want ErrExists", err)
	}
	absent := named("absent")
	if err := s.AddTree(ctx, Tree{ID: named("x"), Base: &absent}); !errors.Is(err, ErrNotFound) {
		t.Errorf("adding on what is not there: got %v, want ErrNotFound", err)
	}
	got, err := s.Tree(ctx, delta.ID)
	must(t, err)
	if diff := cmp.Diff(delta, *got); diff != "" {
		t.Errorf("tree (-want +got):\n%s", diff)
	}
	if _, err := s.Tree(ctx, absent); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	for _, test := range []struct {
		name        string
		environment repo.Digest
		aliases     map[string]string
		limit       int
		want        []Tree
	}{
		{"by use", absent, aliases, 10, []Tree{whole, delta}},
		{"by environment, with what is below", delta.Environment, aliases, 0, []Tree{whole, delta}},
		{"other aliases", delta.Environment, nil, 10, []Tree{other}},
		{"nothing", absent, aliases, 0, nil},
	} {
		list, err := s.NearTrees(ctx, "g1", test.environment, test.aliases, test.limit)
		must(t, err)
		if diff := cmp.Diff(idsOf(test.want...), idsOfRows(list)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
	must(t, s.SetEnvironment(ctx, "g1", &delta.ID, nil))
	list, err := s.NearTrees(ctx, "g1", absent, aliases, 0)
	must(t, err)
	if diff := cmp.Diff(idsOf(whole, delta), idsOfRows(list)); diff != "" {
		t.Errorf("the guest's own (-want +got):\n%s", diff)
	}
}

func idsOf(trees ...Tree) []repo.Digest {
	var ids []repo.Digest
	for _, tree := range trees {
		ids = append(ids, tree.ID)
	}
	return sorted(ids)
}

func idsOfRows(trees []*Tree) []repo.Digest {
	var ids []repo.Digest
	for _, tree := range trees {
		ids = append(ids, tree.ID)
	}
	return sorted(ids)
}

func sorted(ids []repo.Digest) []repo.Digest {
	slices.SortFunc(ids, func(a, b repo.Digest) int { return slices.Compare(a[:], b[:]) })
	return ids
}

// TestEnvironmentReferences: a guest keeps what it asked for last, what it
// asked for before, and what it says that it has mounted; the rest may go.
func TestEnvironmentReferences(t *testing.T) {
	t.Parallel()
	type step struct {
		tree string // "": none
		keep []string
		want []string
	}
	for _, test := range []struct {
		name  string
		steps []step
	}{
		{"one after the other", []step{{"1", nil, []string{"1"}}, {"2", nil, []string{"2", "1"}}, {"3", nil, []string{"3", "2"}}}},
		{"the same again", []step{{"1", nil, []string{"1"}}, {"2", nil, []string{"2", "1"}}, {"2", nil, []string{"2", "1"}}}},
		{"back and forth", []step{{"1", nil, []string{"1"}}, {"2", nil, []string{"2", "1"}}, {"1", nil, []string{"1", "2"}}}},
		{"swaps that failed", []step{
			{"1", nil, []string{"1"}}, {"2", []string{"1"}, []string{"2", "1"}}, {"3", []string{"1"}, []string{"3", "1", "2"}},
			{"4", []string{"1"}, []string{"4", "1", "3"}},
		}},
		{"what is not referred to can not be kept", []step{{"1", []string{"2"}, []string{"1"}}}},
		{"none", []step{{"1", nil, []string{"1"}}, {"2", nil, []string{"2", "1"}}, {"", []string{"1"}, []string{"1"}}, {"", nil, nil}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			must(t, s.AddGuest(ctx, Guest{Name: "g1", Owner: named("owner")}))
			for n := range 4 {
				addTree(t, s, fmt.Sprint(n+1), "", nil)
			}
			for n, step := range test.steps {
				var tree *repo.Digest
				if step.tree != "" {
					id := named(step.tree)
					tree = &id
				}
				var keep, want []repo.Digest
				for _, name := range step.keep {
					keep = append(keep, named("environment "+name))
				}
				for _, name := range step.want {
					want = append(want, named(name))
				}
				must(t, s.SetEnvironment(ctx, "g1", tree, keep))
				got, err := s.GuestTrees(ctx, "g1")
				must(t, err)
				if diff := cmp.Diff(sorted(want), got); diff != "" {
					t.Errorf("step %d (-want +got):\n%s", n, diff)
				}
			}
		})
	}
}

func TestEnvironmentOfNobody(t *testing.T) {
	t.Parallel()
	s := open(t)
	tree := addTree(t, s, "1", "", nil)
	if err := s.SetEnvironment(ctx, "nobody", &tree.ID, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	must(t, s.AddGuest(ctx, Guest{Name: "g1", Owner: named("owner")}))
	absent := named("absent")
	if err := s.SetEnvironment(ctx, "g1", &absent, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}

// TestDropTrees: rows go when nothing leads to them any more, from the top.
func TestDropTrees(t *testing.T) {
	t.Parallel()
	s := open(t)
	must(t, s.AddGuest(ctx, Guest{Name: "g1", Owner: named("owner")}))
	must(t, s.AddGuest(ctx, Guest{Name: "g2", Owner: named("owner")}))
	whole, d1 := addTree(t, s, "whole", "", nil), addTree(t, s, "d1", "whole", nil)
	d2, side := addTree(t, s, "d2", "d1", nil), addTree(t, s, "side", "whole", nil)
	must(t, s.SetEnvironment(ctx, "g1", &d2.ID, nil))
	must(t, s.SetEnvironment(ctx, "g2", &side.ID, nil))
	drop := func(what string, busy []Tree, want ...Tree) {
		t.Helper()
		set := map[repo.Digest]bool{}
		for _, tree := range busy {
			set[tree.ID] = true
		}
		got, err := s.DropTrees(ctx, set)
		must(t, err)
		if diff := cmp.Diff(idsOf(want...), sorted(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	drop("all in use", nil)
	must(t, s.RemoveGuest(ctx, "g2"))
	drop("in work", []Tree{side})
	drop("a guest gone", nil, side)
	must(t, s.KeepEnvironments(ctx, "g1", []repo.Digest{d2.Environment}))
	drop("kept", nil)
	must(t, s.KeepEnvironments(ctx, "g1", nil))
	drop("top in work", []Tree{d2})
	drop("all idle", []Tree{whole}, d1, d2)
	drop("the last", nil, whole)
}

// TestForgetTrees: with a lost tree go those on top of it, and references.
func TestForgetTrees(t *testing.T) {
	t.Parallel()
	s := open(t)
	must(t, s.AddGuest(ctx, Guest{Name: "g1", Owner: named("owner")}))
	whole, lost := addTree(t, s, "whole", "", nil), addTree(t, s, "lost", "whole", nil)
	top := addTree(t, s, "top", "lost", nil)
	must(t, s.SetEnvironment(ctx, "g1", &top.ID, nil))
	forgotten, err := s.ForgetTrees(ctx, []repo.Digest{lost.ID, top.ID})
	must(t, err)
	if diff := cmp.Diff(idsOf(lost, top), sorted(forgotten)); diff != "" {
		t.Errorf("forgotten (-want +got):\n%s", diff)
	}
	list, err := s.Trees(ctx)
	must(t, err)
	if diff := cmp.Diff(idsOf(whole), idsOfRows(list)); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	mine, err := s.GuestTrees(ctx, "g1")
	must(t, err)
	if len(mine) != 0 {
		t.Errorf("the guest still has %v", mine)
	}
}

func TestEntitledAndNoLayers(t *testing.T) {
	t.Parallel()
	s := open(t)
	must(t, s.AddGuest(ctx, Guest{Name: "g1", Owner: named("owner")}))
	for _, name := range []string{"a", "b"} {
		must(t, s.AddLayer(ctx, Layer{ID: named(name), Manifest: repo.Object{Digest: named("list")}}, nil))
	}
	must(t, s.Entitle(ctx, "g1", []repo.Digest{named("b")}))
	entitled, err := s.Entitled(ctx, "g1")
	must(t, err)
	if diff := cmp.Diff(map[repo.Digest]bool{named("b"): true}, entitled); diff != "" {
		t.Errorf("entitled (-want +got):\n%s", diff)
	}
	unknown, err := s.NoLayers(ctx, []repo.Digest{named("a"), named("x"), named("b")})
	must(t, err)
	if diff := cmp.Diff([]repo.Digest{named("x")}, unknown); diff != "" {
		t.Errorf("no layers (-want +got):\n%s", diff)
	}
	if _, err := s.PackageName(ctx, named("a")); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}
