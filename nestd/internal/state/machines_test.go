package state

import (
	"errors"
	"fmt"
	"testing"

	"stork/repo"
)

// TestRootUsers: machines never have a user in common, whether the nest or the
// operator chooses; what a machine has it keeps.
func TestRootUsers(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	set := func(name string, want uint32) (uint32, error) { return s.SetRootUser(ctx, name, want) }
	expect := func(name string, want, got uint32) {
		t.Helper()
		first, err := set(name, want)
		if err != nil || first != got {
			t.Errorf("%s, asked for %d: got %d, %v, want %d", name, want, first, err, got)
		}
	}
	for i := range 6 {
		must(t, s.AddGuest(ctx, Guest{Name: fmt.Sprint("g", i), Owner: repo.DigestOf([]byte("owner"))}))
	}
	const first = firstMachineUser
	expect("g0", 0, first)
	expect("g1", 0, first+MachineUsers)
	expect("g0", 0, first)
	expect("g2", 300000, 300000)
	expect("g2", 0, 300000)
	for _, want := range []uint32{300000, 300000 + MachineUsers - 1, 300000 - MachineUsers + 1, first + 5, first - 5} {
		if got, err := set("g3", want); !errors.Is(err, ErrExists) {
			t.Errorf("users from %d on, which others have: %d, %v", want, got, err)
		}
	}
	expect("g3", 300000+MachineUsers, 300000+MachineUsers)
	expect("g3", 300001+MachineUsers, 300001+MachineUsers) // its own are in nobody's way
	must(t, s.RemoveGuest(ctx, "g0"))
	expect("g4", first, first)
	if _, err := set("g4", first+2); !errors.Is(err, ErrExists) {
		t.Errorf("a part of the next machine's: %v", err)
	}
	expect("g5", 0, first+2*MachineUsers)
	if _, err := set("nobody", 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("no such guest: %v", err)
	}
	g, err := s.Guest(ctx, "g2")
	must(t, err)
	list, err := s.Guests(ctx)
	must(t, err)
	if g.RootUser != 300000 || list[1].RootUser != 300000 {
		t.Errorf("g2 is said to have %d, %d", g.RootUser, list[1].RootUser)
	}
	expect("g1", pastMachineUsers-MachineUsers, pastMachineUsers-MachineUsers)
}
