package nest

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"stork/nestd/api"
	"stork/repo"
)

// TestClients: a guest's stork is the whole program until it has had
// something, and the quick one from then on.
func TestClients(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.publish(hello("one"))
	n := startNest(t, o)
	bin := t.TempDir()
	n.Client, n.Quick = filepath.Join(bin, "stork"), filepath.Join(bin, "stork-guest")
	must(t, os.WriteFile(n.Client, []byte("whole"), 0o755))
	must(t, os.WriteFile(n.Quick, []byte("quick"), 0o755))
	ctx := context.Background()
	must(t, n.copyClients(ctx))
	refreshed(t, n)
	is := func(guest, name, want string) {
		t.Helper()
		got, err := os.ReadFile(filepath.Join(n.guestDir(guest), name))
		must(t, err)
		if string(got) != want {
			t.Errorf("%s of %s is the %s program, want the %s one", name, guest, got, want)
		}
	}
	for _, guest := range []string{"g1", "g2"} {
		addGuest(t, n, guest)
		is(guest, api.BinaryName, "whole")
		is(guest, api.WholeName, "whole")
	}
	_, err := prepareAll(n, "g1", o, "one")
	must(t, err)
	n.quicken("g1") // as when it has attached that
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		if sameFile(n.copyOf(client{name: api.BinaryName}), filepath.Join(n.guestDir("g1"), api.BinaryName)) {
			break
		}
		if time.Since(began) > 10*time.Second {
			t.Fatal("it does not come")
		}
	}
	is("g1", api.BinaryName, "quick")
	is("g1", api.WholeName, "whole")
	is("g2", api.BinaryName, "whole")

	// The next start.
	must(t, n.State.Entitle(ctx, "g2", []repo.Digest{o.ids["one"]}))
	must(t, n.recoverGuests(ctx))
	is("g1", api.BinaryName, "quick")
	is("g2", api.BinaryName, "quick")
}
