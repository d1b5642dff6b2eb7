package nest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stork/fixtures"
	"stork/nestd/api"
	"stork/repo"
	"stork/repo/durable"
)

var errInjected = errors.New("injected")

// faults fails the k-th step after it is armed, and all that follow, as a
// disk that is gone does.
type faults struct {
	mu    sync.Mutex
	armed bool
	left  int
	after bool // the first failing step is done all the same
	hit   bool
}

func (f *faults) arm(k int, after bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed, f.left, f.after, f.hit = true, k, after, false
}

func (f *faults) disarm() (hit bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed = false
	return f.hit
}

func (f *faults) disk() durable.Disk {
	return durable.Disk{Fault: func(durable.Step, string) (before, after error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if !f.armed {
			return nil, nil
		}
		if f.left--; f.left > 0 {
			return nil, nil
		}
		first := !f.hit
		f.hit = true
		if first && f.after {
			return nil, errInjected
		}
		return errInjected, nil
	}}
}

// everyFault runs act with the k-th step failing, for every k and both
// flavours, until no step is left to fail. check then finds the nest, opened
// again without faults, sound. Most of the time goes to waiting for the disk:
// a few run beside each other.
func everyFault(t *testing.T, o *origin, before, act func(*Nest) error, check func(*testing.T, *Nest)) {
	t.Helper()
	for _, after := range []bool{false, true} {
		var next, past atomic.Int64
		t.Run(fmt.Sprintf("after=%v", after), func(t *testing.T) {
			for worker := range 6 {
				t.Run(fmt.Sprint(worker), func(t *testing.T) {
					t.Parallel()
					for past.Load() == 0 && !t.Failed() {
						k := int(next.Add(1))
						if !oneFault(t, o, k, after, before, act, check) {
							past.Store(1)
						}
					}
				})
			}
		})
		t.Logf("after=%v: %d steps", after, next.Load())
	}
}

// oneFault reports whether there was a k-th step.
func oneFault(t *testing.T, o *origin, k int, after bool, before, act func(*Nest) error, check func(*testing.T, *Nest)) bool {
	dir, err := os.MkdirTemp(t.TempDir(), "nest")
	must(t, err)
	f := new(faults)
	n, err := openNest(t, dir, o, f.disk())
	must(t, err)
	must(t, before(n))
	f.arm(k, after)
	err = act(n)
	hit := f.disarm()
	must(t, n.Close())
	if err == nil && !hit {
		return false
	}
	if n, err = openNest(t, dir, o, noFaults); err != nil {
		t.Fatalf("step %d: cannot open again: %v", k, err)
	}
	check(t, n)
	must(t, n.Close())
	if t.Failed() {
		t.Errorf("at step %d", k)
	}
	return true
}

func TestFaultsInPrepare(t *testing.T) {
	t.Parallel()
	needRoot(t)
	o := newOrigin(t)
	o.publish(hello("one"))
	before := func(n *Nest) error {
		addGuest(t, n, "g1")
		refreshed(t, n)
		return nil
	}
	act := func(n *Nest) error {
		_, err := prepareAll(n, "g1", o, "one")
		return err
	}
	everyFault(t, o, before, act, func(t *testing.T, n *Nest) {
		checkSound(t, n)
		if _, err := prepareAll(n, "g1", o, "one"); err != nil {
			t.Error(err)
		}
		checkSound(t, n)
	})
}

// TestFaultsInRefresh wants guests to see the old snapshot or the new one,
// whole, with every index document.
func TestFaultsInRefresh(t *testing.T) {
	t.Parallel()
	needRoot(t)
	o := newOrigin(t)
	o.publish(hello("one"))
	act := func(n *Nest) error {
		list, err := n.Refresh(context.Background())
		if err == nil && list[0].Error != "" {
			err = errors.New(list[0].Error)
		}
		return err
	}
	before := func(*Nest) error { return nil }
	everyFault(t, o, before, act, func(t *testing.T, n *Nest) {
		r := n.repositories[o.root]
		view := r.mirror.view.Load()
		for path := range view.Files {
			if _, err := n.Read(context.Background(), o.root, path); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
		if len(view.Files) > 0 {
			if _, err := n.Read(context.Background(), o.root, repo.DataPath(o.index.Object.Digest)); err != nil {
				t.Errorf("the snapshot is shown without its index: %v", err)
			}
		}
		refreshed(t, n)
		if _, err := n.Read(context.Background(), o.root, repo.TimestampPath); err != nil {
			t.Error(err)
		}
	})
}

func TestFaultsInGuests(t *testing.T) {
	t.Parallel()
	needRoot(t)
	o := newOrigin(t)
	request := api.GuestRequest{Name: "g2", Owner: repo.DigestOf([]byte("owner"))}
	before := func(n *Nest) error { addGuest(t, n, "g1"); return nil }
	act := func(n *Nest) error {
		_, err := n.AddGuest(context.Background(), request)
		return errors.Join(err, n.RemoveGuest(context.Background(), "g1"))
	}
	everyFault(t, o, before, act, func(t *testing.T, n *Nest) {
		guests, err := n.Guests(context.Background())
		must(t, err)
		entries, err := os.ReadDir(filepath.Join(n.RunDir, "guests"))
		must(t, err)
		if len(guests) != len(entries) {
			t.Errorf("%d guests have %d directories", len(guests), len(entries))
		}
		for _, g := range guests {
			if _, err := os.Stat(filepath.Join(g.Directory, api.PinsName)); err != nil {
				t.Error(err)
			}
		}
		if _, err := n.AddGuest(context.Background(), request); err != nil {
			t.Error(err)
		}
	})
}

// TestKilledDaemon kills a daemon with SIGKILL at many moments of a prepare.
func TestKilledDaemon(t *testing.T) {
	t.Parallel()
	needRoot(t)
	o := newOrigin(t)
	big := hello("big")
	for i := range 200 {
		big.Files = append(big.Files, fixtures.Text(fmt.Sprintf("/opt/big/f%03d", i), fmt.Sprintf("file %d\n", i)))
	}
	o.publish(big)
	dir := t.TempDir()
	for delay := time.Duration(0); delay < 120*time.Millisecond; delay += 12 * time.Millisecond {
		child := exec.Command("/proc/self/exe", "test-nest", dir, o.server.URL, o.root.String(), o.ids["big"].String())
		child.Stderr = testWriter{t}
		out, err := child.StdoutPipe()
		must(t, err)
		must(t, child.Start())
		if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "preparing\n" {
			t.Errorf("the daemon says %q, %v", line, err)
		}
		time.Sleep(delay)
		must(t, child.Process.Kill())
		if err := child.Wait(); err == nil {
			t.Error("the daemon ended by itself")
		}
		n, err := openNest(t, dir, o, noFaults)
		must(t, err)
		checkSound(t, n)
		must(t, n.Close())
	}
	n, err := openNest(t, dir, o, noFaults)
	must(t, err)
	defer n.Close()
	_, err = prepareAll(n, "g1", o, "big")
	must(t, err)
	checkSound(t, n)
}

// runNest is the daemon of TestKilledDaemon: it prepares one package, then
// waits to be killed.
func runNest(args []string) {
	root, err := repo.ParseDigest(args[2])
	panicIf(err)
	id, err := repo.ParseDigest(args[3])
	panicIf(err)
	ctx := context.Background()
	n, err := openNestAt(ctx, args[0], api.RepositoryPin{URL: args[1], Root: root}, noFaults, os.Stderr)
	panicIf(err)
	_, err = n.Refresh(ctx)
	panicIf(err)
	_, err = n.AddGuest(ctx, api.GuestRequest{Name: "g1", Owner: root})
	panicIf(err)
	fmt.Println("preparing")
	request := api.PrepareRequest{Packages: []api.PackageRef{{ID: id, Name: "big", Publisher: "alice", Repository: root}}}
	panicIf(n.Prepare(ctx, "g1", request, func(api.Event) error { return nil }))
	select {}
}

func panicIf(err error) {
	if err != nil {
		panic(err)
	}
}

// TestHostilePublisher signs records that do not describe their blobs: each
// is refused and leaves nothing behind.
func TestHostilePublisher(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.publish(hello("honest"))
	n := startNest(t, o)
	addGuest(t, n, "g1")
	for name, change := range map[string]func(*repo.Record){
		"summary":   func(r *repo.Record) { r.Summary = "something else" },
		"provides":  func(r *repo.Record) { r.Provides = nil },
		"file-list": func(r *repo.Record) { r.FileList.Digest = repo.DigestOf([]byte("other")) },
		"scriptlet": func(r *repo.Record) {
			r.Scriptlets = []repo.Scriptlet{{Interpreter: []string{"/bin/sh"}, Phase: repo.Post, Script: "id"}}
		},
	} {
		o.publishChanged(hello(name), change)
	}
	o.publishChanged(hello("truncated"), func(r *repo.Record) { r.Blob.Size-- })
	refreshed(t, n)
	for _, name := range []string{"summary", "provides", "file-list", "scriptlet", "truncated"} {
		_, err := prepareAll(n, "g1", o, name)
		if err == nil {
			t.Errorf("%s: prepared", name)
			continue
		}
		if code := Explain(err).Code; code != api.Untrusted {
			t.Errorf("%s: code %s: %v", name, code, err)
		}
	}
	if layers, err := n.Store.Layers(); err != nil || len(layers) != 0 {
		t.Errorf("layers: %v, %v", layers, err)
	}
	checkSound(t, n)
	if stats, err := n.StoreStats(context.Background()); err != nil || stats.Objects != 0 {
		t.Errorf("stats: %+v, %v", stats, err)
	}
	_, err := prepareAll(n, "g1", o, "honest")
	must(t, err)
}
