package nest

import (
	"context"
	"testing"

	"stork/fixtures"
	"stork/nestd/api"
	"stork/repo"
)

// TestMachine: a guest that is a virtual machine gets no upper and no
// placements, whatever it asks for, and users that no other machine has.
func TestMachine(t *testing.T) {
	t.Parallel()
	_, n := preparedFor(t, []string{"g1", "g2"}, []fixtures.Spec{hello("a")})
	ctx := context.Background()
	g := startGuest(t, n, "g1")
	if _, err := n.Upper(ctx, "g1", g.peer, api.UpperRequest{View: g.view}); err != nil {
		t.Fatalf("before it is one: %v", err)
	}
	first, err := n.Machine(ctx, "g1", api.MachineRequest{})
	must(t, err)
	if again, err := n.Machine(ctx, "g1", api.MachineRequest{}); err != nil || first.RootUser == 0 || again.RootUser != first.RootUser {
		t.Errorf("got users from %d on, then %+v, %v", first.RootUser, again, err)
	}
	if second, err := n.Machine(ctx, "g2", api.MachineRequest{}); err != nil || second.RootUser < first.RootUser+65536 {
		t.Errorf("two machines have users from %d and %+v, %v", first.RootUser, second, err)
	}
	yes := true
	owner := first.Owner
	for what, c := range map[string]struct {
		err  error
		want api.Code
	}{
		"upper":               {errorOf(n.Upper(ctx, "g1", g.peer, api.UpperRequest{View: g.view})), api.Unsupported},
		"placement":           {errorOf(n.AddGuest(ctx, api.GuestRequest{Name: "g1", Owner: owner, Placement: &yes})), api.Conflict},
		"users of another":    {errorOf(n.Machine(ctx, "g2", api.MachineRequest{RootUser: first.RootUser + 1})), api.Conflict},
		"users past the last": {errorOf(n.Machine(ctx, "g2", api.MachineRequest{RootUser: 1<<32 - 1})), api.BadRequest},
		"no guest":            {errorOf(n.Machine(ctx, "g9", api.MachineRequest{})), api.NotFound},
	} {
		if c.err == nil || Explain(c.err).Code != c.want {
			t.Errorf("%s: got %v, want %s", what, c.err, c.want)
		}
	}
	_, err = n.AddGuest(ctx, api.GuestRequest{Name: "placed", Owner: repo.DigestOf([]byte("owner")), Placement: &yes})
	must(t, err)
	if _, err := n.Machine(ctx, "placed", api.MachineRequest{}); err == nil || Explain(err).Code != api.Conflict {
		t.Errorf("a machine with placements: %v", err)
	}
}

func errorOf[T any](_ T, err error) error { return err }
