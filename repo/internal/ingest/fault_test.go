package ingest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"stork/fixtures"
	"stork/repo"
	"stork/repo/api"
	"stork/repo/durable"
	"stork/repo/internal/check"
	"stork/repo/internal/ingest"
	"stork/repo/internal/uploadtest"
)

func rpm(t testing.TB, name, version string) []byte {
	t.Helper()
	return fixtures.MustRPM(t, fixtures.Spec{Name: name, Version: version, Files: []fixtures.File{fixtures.Text("/opt/"+name, version)}})
}

// send makes a whole upload without a network.
func send(ctx context.Context, in *ingest.Ingest, u *uploadtest.Upload) error {
	b, err := json.Marshal(u.Request())
	if err != nil {
		return err
	}
	session, err := in.Open(ctx, u.Name, bytes.NewReader(b))
	if err != nil {
		return err
	}
	if _, err := in.Receive(ctx, u.Name, session.Session, u.Tar(session.Missing)); err != nil {
		return err
	}
	_, err = in.Commit(ctx, u.Name, session.Session)
	return err
}

var errFault = errors.New("injected")

// failAt returns a fault that strikes the n-th step, before or after it is
// done, and, if dead, every step after it: as when the process dies there.
func failAt(n int, after, dead bool) (durable.Fault, func() bool) {
	var mu sync.Mutex
	step := 0
	fault := func(durable.Step, string) (error, error) {
		mu.Lock()
		defer mu.Unlock()
		step++
		switch {
		case step == n && after:
			return nil, errFault
		case step == n, step > n && dead:
			return errFault, nil
		}
		return nil, nil
	}
	return fault, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return step >= n
	}
}

// TestFaults fails every step of an upload, once in each flavour, and once
// with everything after it: readers must see the old state or the new, whole,
// and after a restart nothing may lie about.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, flavour := range []struct {
		name        string
		after, dead bool
	}{{"not done", false, false}, {"done but lost", true, false}, {"died", false, true}} {
		t.Run(flavour.name, func(t *testing.T) {
			t.Parallel()
			var w *uploadtest.World
			var alice *uploadtest.Publisher
			for n, struck := 1, true; struck; n++ {
				if n%8 == 1 { // check reads all that was ever published
					w = uploadtest.NewWorld(t)
					alice = w.Publisher(t, "alice")
					before := alice.Prepare(t, rpm(t, "before", "1.0")) // for there to be a delta
					if err := send(t.Context(), ingest.New(w.Home, uploadtest.Quiet(), faultLimits, 2), before); err != nil {
						t.Fatal(err)
					}
					alice.Published(before)
				}
				struck = faultedUpload(t, w, alice, n, flavour.after, flavour.dead)
			}
		})
	}
}

// faultLimits let an upload of one package be as rich in steps as one can be.
var faultLimits = ingest.Limits{PackFrom: 1, Deltas: 1}

// faultedUpload makes one upload that fails at step n, repairs, and makes
// sure that the upload can be finished. It reports whether there was such a
// step.
func faultedUpload(t *testing.T, w *uploadtest.World, p *uploadtest.Publisher, n int, after, dead bool) bool {
	t.Helper()
	fault, struck := failAt(n, after, dead)
	u := p.Prepare(t, framed(t, fmt.Sprintf("pkg%d", n)))
	faulty := ingest.New(w.Reopen(t, durable.Disk{Fault: fault}), uploadtest.Quiet(), faultLimits, 2)
	err := send(t.Context(), faulty, u)
	if !struck() && err != nil {
		t.Fatalf("step %d: no fault, yet %v", n, err)
	}
	// Before the restart, readers must find everything that is named; what
	// nobody names may lie about until then.
	for _, problem := range checked(t, w) {
		if !strings.Contains(problem, "belongs to nothing") && !strings.Contains(problem, "interrupted") {
			t.Errorf("step %d (%v): before the restart: %s", n, err, problem)
		}
	}
	in := ingest.New(w.Home, uploadtest.Quiet(), faultLimits, 2)
	if err := in.Recover(t.Context()); err != nil {
		t.Fatalf("step %d: %v", n, err)
	}
	for _, problem := range checked(t, w) {
		t.Errorf("step %d (%v): after the restart: %s", n, err, problem)
	}
	if err := send(t.Context(), in, u); err != nil {
		t.Fatalf("step %d: the upload can not be finished: %v", n, err)
	}
	p.Published(u)
	versions, err := w.Home.Versions()
	if err != nil {
		t.Fatal(err)
	}
	if got := versions.Roles["p-alice"]; got != p.Version {
		t.Fatalf("step %d: version %d is published, want %d", n, got, p.Version)
	}
	return struck()
}

func checked(t *testing.T, w *uploadtest.World) []string {
	t.Helper()
	report, err := check.Run(context.Background(), w.Home, 1)
	if err != nil {
		t.Fatal(err)
	}
	return report.Problems
}

// TestFailedCommitIsUndone shows that a server whose disk failed once goes on
// without a restart, and leaves nothing of the failed commit in the tree.
func TestFailedCommitIsUndone(t *testing.T) {
	t.Parallel()
	w := uploadtest.NewWorld(t)
	alice := w.Publisher(t, "alice")
	failing := true
	disk := durable.Disk{Fault: func(step durable.Step, path string) (error, error) {
		if failing && step == durable.StepWrite && strings.HasSuffix(path, "/timestamp.json") {
			return errFault, nil
		}
		return nil, nil
	}}
	in := ingest.New(w.Reopen(t, disk), uploadtest.Quiet(), ingest.Limits{}, 2)
	u := alice.Prepare(t, rpm(t, "hello", "1.0"))
	if err := send(t.Context(), in, u); !errors.Is(err, errFault) {
		t.Fatalf("the commit ended with %v, want the fault", err)
	}
	for _, problem := range checked(t, w) {
		// P4: a role and a snapshot that no timestamp names.
		if !strings.HasPrefix(problem, "metadata/") {
			t.Error(problem)
		}
	}
	failing = false
	if err := send(t.Context(), in, u); err != nil {
		t.Fatal(err)
	}
	for _, problem := range checked(t, w) {
		t.Error(problem)
	}
}

// TestPacks grows an index beyond what is fetched one by one.
func TestPacks(t *testing.T) {
	t.Parallel()
	w := uploadtest.NewWorld(t)
	alice := w.Publisher(t, "alice")
	in := ingest.New(w.Home, uploadtest.Quiet(), ingest.Limits{PackFrom: 4}, 2)
	var blobs [][]byte
	for n := range 110 {
		blobs = append(blobs, rpm(t, fmt.Sprintf("pkg%d", n), "1.0"))
	}
	for _, step := range [][][]byte{blobs[:60], blobs[60:]} {
		u := alice.Prepare(t, step...)
		if err := send(t.Context(), in, u); err != nil {
			t.Fatal(err)
		}
		alice.Published(u)
		report, err := check.Run(t.Context(), w.Home, 2)
		if err != nil {
			t.Fatal(err)
		}
		if len(report.Problems) > 0 || report.Packs != 1 || report.Packages != alice.Tree.Root.Packages {
			t.Errorf("check reports %+v, want one pack of %d packages and no problem", report, alice.Tree.Root.Packages)
		}
	}
}

// TestDeltas publishes again and again: there are deltas to the newest index
// from the last few, also when a role was only signed again, and no others.
func TestDeltas(t *testing.T) {
	t.Parallel()
	w := uploadtest.NewWorld(t)
	alice := w.Publisher(t, "alice")
	in := ingest.New(w.Home, uploadtest.Quiet(), ingest.Limits{Deltas: 3}, 2)
	roots := []repo.Digest{}
	for n := range 7 {
		var blobs [][]byte
		if n != 4 { // signed again, without a package
			blobs = append(blobs, rpm(t, fmt.Sprintf("pkg%d", n), "1.0"))
		}
		u := alice.Prepare(t, blobs...)
		if err := send(t.Context(), in, u); err != nil {
			t.Fatal(err)
		}
		alice.Published(u)
		newest := alice.Tree.Object.Digest
		if !slices.Contains(roots, newest) {
			roots = append(roots, newest)
		}
		var want []string
		for _, old := range roots[max(0, len(roots)-4) : len(roots)-1] {
			want = append(want, w.Home.TreePath(repo.DeltaPath(old, newest)))
		}
		got, err := filepath.Glob(w.Home.TreePath("deltas/*/*"))
		slices.Sort(want)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("after upload %d there are %v, want %v", n, got, want)
		}
		for _, problem := range checked(t, w) {
			t.Error(problem)
		}
	}
}

// TestOlderTree takes uploads into a repository that was made before there
// were deltas.
func TestOlderTree(t *testing.T) {
	t.Parallel()
	w := uploadtest.NewWorld(t)
	alice := w.Publisher(t, "alice")
	if err := os.Remove(w.Home.TreePath("deltas")); err != nil {
		t.Fatal(err)
	}
	in := ingest.New(w.Home, uploadtest.Quiet(), ingest.Limits{}, 2)
	if err := in.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	for n := range 2 {
		u := alice.Prepare(t, rpm(t, fmt.Sprintf("pkg%d", n), "1.0"))
		if err := send(t.Context(), in, u); err != nil {
			t.Fatal(err)
		}
		alice.Published(u)
	}
	if deltas, err := filepath.Glob(w.Home.TreePath("deltas/*/*")); err != nil || len(deltas) != 1 {
		t.Errorf("deltas: %v, %v", deltas, err)
	}
}

// TestDeltaFromADamagedIndex publishes although an earlier index can not be
// read any more.
func TestDeltaFromADamagedIndex(t *testing.T) {
	t.Parallel()
	w := uploadtest.NewWorld(t)
	alice := w.Publisher(t, "alice")
	in := ingest.New(w.Home, uploadtest.Quiet(), ingest.Limits{}, 2)
	var first repo.Digest
	for n := range 3 {
		if n == 2 {
			if err := os.Remove(w.Home.TreePath(repo.DataPath(first))); err != nil {
				t.Fatal(err)
			}
		}
		u := alice.Prepare(t, rpm(t, fmt.Sprintf("pkg%d", n), "1.0"))
		if err := send(t.Context(), in, u); err != nil {
			t.Fatal(err)
		}
		alice.Published(u)
		if n == 0 {
			first = alice.Tree.Object.Digest
		}
	}
	deltas, err := filepath.Glob(w.Home.TreePath("deltas/*/*"))
	if err != nil || len(deltas) != 1 {
		t.Errorf("there are %v, %v, want the one from the index that is whole", deltas, err)
	}
}

// TestOtherObjects begins an upload again with another list, and again with
// the first one.
func TestOtherObjects(t *testing.T) {
	t.Parallel()
	w := uploadtest.NewWorld(t)
	in := ingest.New(w.Home, uploadtest.Quiet(), ingest.Limits{}, 1)
	u := w.Publisher(t, "alice").Prepare(t, rpm(t, "hello", "1.0"))
	all := u.Objects
	for _, objects := range [][]api.Object{all, all[1:], all} {
		u.Objects = objects
		b, err := json.Marshal(u.Request())
		if err != nil {
			t.Fatal(err)
		}
		session, err := in.Open(t.Context(), u.Name, bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := in.Receive(t.Context(), u.Name, session.Session, u.Tar(session.Missing)); err != nil {
			t.Fatal(err)
		}
	}
	if err := send(t.Context(), in, u); err != nil {
		t.Fatal(err)
	}
	for _, problem := range checked(t, w) {
		t.Error(problem)
	}
}

func uploads(t *testing.T, w *uploadtest.World) []os.DirEntry {
	t.Helper()
	entries, err := os.ReadDir(w.Home.Uploads())
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

// TestExpiry lets uploads go that nobody came back for.
func TestExpiry(t *testing.T) {
	t.Parallel()
	w := uploadtest.NewWorld(t)
	alice := w.Publisher(t, "alice")
	in := ingest.New(w.Home, uploadtest.Quiet(), ingest.Limits{Sessions: 2, Idle: 1}, 1)
	for n := range 3 {
		b, err := json.Marshal(alice.Prepare(t, rpm(t, fmt.Sprintf("pkg%d", n), "1.0")).Request())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := in.Open(t.Context(), "p-alice", bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
		if got := len(uploads(t, w)); got != min(n+1, 2) {
			t.Errorf("%d uploads are kept after %d were begun, want at most 2", got, n+1)
		}
	}
	if err := in.Expire(); err != nil {
		t.Fatal(err)
	}
	if left := uploads(t, w); len(left) != 0 {
		t.Errorf("%v are left", left)
	}
}

// TestConcurrentPublishers uploads for several roles at once.
func TestConcurrentPublishers(t *testing.T) {
	t.Parallel()
	w := uploadtest.NewWorld(t)
	in := ingest.New(w.Home, uploadtest.Quiet(), ingest.Limits{}, 2)
	var wait sync.WaitGroup
	for _, name := range []repo.Publisher{"alice", "bob", "carol"} {
		p := w.Publisher(t, name)
		wait.Go(func() {
			for n := range 3 {
				u := p.Prepare(t, rpm(t, "shared", fmt.Sprint(n)), rpm(t, string(name), fmt.Sprint(n)))
				if err := send(t.Context(), in, u); err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				p.Published(u)
			}
		})
	}
	wait.Wait()
	for _, problem := range checked(t, w) {
		t.Error(problem)
	}
}
