package nest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"stork/fixtures"
	"stork/nestd/api"
	"stork/nestd/internal/attach"
	"stork/repo"
)

// TestPlacement: a guest has files of what it has prepared mounted, and of
// nothing else; from the request on it refers to the layer.
func TestPlacement(t *testing.T) {
	t.Parallel()
	specs := []fixtures.Spec{hello("mine"), hello("others")}
	for i := range specs {
		specs[i].Files = append(specs[i].Files, fixtures.Text("/usr/share/"+specs[i].Name+"-data", specs[i].Name))
	}
	o, n := preparedFor(t, []string{"g2"}, specs)
	ctx := context.Background()
	yes := true
	_, err := n.AddGuest(ctx, api.GuestRequest{Name: "g1", Owner: repo.DigestOf([]byte("owner")), Placement: &yes})
	must(t, err)
	_, err = prepareAll(n, "g1", o, "mine")
	must(t, err)
	g := startGuest(t, n, "g1")
	g.sh("touch " + g.dir + "/file")
	place := func(guest, name string) error {
		return n.Placement(ctx, guest, g.peer, api.PlacementRequest{View: g.view, Changes: []api.MountChange{
			{Kind: api.MountPlace, Path: g.dir + "/file", Layer: o.ids[name], Source: "/usr/share/" + name + "-data"}}})
	}
	refers := func() int {
		refs, err := n.State.References(ctx, "g1")
		must(t, err)
		return len(refs)
	}
	if err := place("g1", "others"); !errors.Is(err, attach.ErrNotEntitled) {
		t.Errorf("another guest's package: %v", err)
	}
	if err := place("g2", "others"); err == nil || Explain(err).Code != api.NotEntitled {
		t.Errorf("not registered for it: %v", err)
	}
	if refers() != 0 {
		t.Error("the guest refers to what it does not have")
	}
	must(t, place("g1", "mine"))
	if got := g.sh("cat " + g.dir + "/file"); got != "mine" {
		t.Errorf("guest reads %q", got)
	}
	if refers() != 1 {
		t.Error("the guest does not refer to what it has mounted")
	}
	if out, ok := g.try("echo x > " + g.dir + "/file"); ok {
		t.Errorf("guest can write: %s", out)
	}
	// A view of another guest's is not where this one asks from.
	if err := n.Placement(ctx, "g1", g.peer, api.PlacementRequest{View: g.dir}); !errors.Is(err, attach.ErrNotAttached) {
		t.Errorf("another directory as the view: %v", err)
	}
	must(t, n.Placement(ctx, "g1", g.peer, api.PlacementRequest{View: g.view, Changes: []api.MountChange{{Kind: api.MountClear, Path: g.dir + "/file"}}}))
	if got := g.sh(fmt.Sprintf("stat -c %%s %s/file; grep -c %s/file /proc/self/mountinfo || true", g.dir, g.dir)); strings.Fields(got)[0] != "0" || strings.Fields(got)[1] != "0" {
		t.Errorf("after removal: %q", got)
	}
}

// TestPlacementTakenAway: a guest that is not registered for placements any
// more gets no new ones, and can still have those taken away that it has.
func TestPlacementTakenAway(t *testing.T) {
	t.Parallel()
	specs := []fixtures.Spec{hello("first"), hello("second")}
	for i := range specs {
		specs[i].Files = append(specs[i].Files, fixtures.Text("/usr/share/data", specs[i].Name))
	}
	o, n := preparedFor(t, nil, specs)
	ctx := context.Background()
	register := func(placement bool) {
		_, err := n.AddGuest(ctx, api.GuestRequest{Name: "g1", Owner: repo.DigestOf([]byte("owner")), Placement: &placement})
		must(t, err)
	}
	register(true)
	_, err := prepareAll(n, "g1", o, "first", "second")
	must(t, err)
	g := startGuest(t, n, "g1")
	g.sh("echo mine > " + g.dir + "/file; echo mine > " + g.dir + "/other")
	change := func(kind api.MountKind, file, name string) error {
		c := api.MountChange{Kind: kind, Path: g.dir + "/" + file}
		if name != "" {
			c.Layer, c.Source = o.ids[name], "/usr/share/data"
		}
		return n.Placement(ctx, "g1", g.peer, api.PlacementRequest{View: g.view, Changes: []api.MountChange{c}})
	}
	reads := func(file, want string) {
		t.Helper()
		if got := strings.TrimSpace(g.sh("cat " + g.dir + "/" + file)); got != want {
			t.Errorf("%s: guest reads %q, want %q", file, got, want)
		}
	}
	must(t, change(api.MountPlace, "file", "first"))
	register(false)
	for _, file := range []string{"file", "other"} {
		if err := change(api.MountPlace, file, "second"); err == nil || Explain(err).Code != api.NotEntitled {
			t.Errorf("a new mount on %s: %v", file, err)
		}
	}
	if err := change(api.MountReplace, "other", "second"); !errors.Is(err, attach.ErrTarget) {
		t.Errorf("a new mount instead of none: %v", err)
	}
	reads("other", "mine")
	must(t, change(api.MountReplace, "file", "second"))
	reads("file", "second")
	must(t, change(api.MountClear, "file", ""))
	reads("file", "mine")
}
