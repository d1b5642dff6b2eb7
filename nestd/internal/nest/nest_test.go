package nest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"stork/fixtures"
	"stork/nestd/api"
	"stork/repo"
)

func hello(name string) fixtures.Spec {
	return fixtures.Spec{Name: name, Files: []fixtures.File{
		fixtures.Directory("/opt/" + name), fixtures.Program("/opt/"+name+"/hello", "#!/bin/sh\necho "+name+"\n"),
		fixtures.Text("/opt/"+name+"/shared", "the same in all of them\n"),
		fixtures.ConfigFile("/etc/"+name+".conf", "answer = 42\n"),
	}}
}

func TestPrepare(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.publish(hello("one"), hello("two"))
	n := startNest(t, o)
	addGuest(t, n, "g1")
	addGuest(t, n, "g2")
	refreshed(t, n)

	got, err := prepareAll(n, "g1", o, "one", "two")
	must(t, err)
	for _, name := range []string{"one", "two"} {
		p := got[name]
		if p.Cached || p.Fetched == 0 || p.Stored == 0 || len(p.Private) != 1 || p.Private[0].Path != "/etc/"+name+".conf" {
			t.Errorf("first prepare of %s: %+v", name, p)
		}
	}
	requests := o.blobRequests.Load()
	got, err = prepareAll(n, "g2", o, "one")
	must(t, err)
	if p := got["one"]; !p.Cached || p.Fetched != 0 || p.Stored != 0 || p.Shared == 0 {
		t.Errorf("second prepare: %+v", p)
	}
	if now := o.blobRequests.Load(); now != requests {
		t.Errorf("second prepare asked the repository %d times", now-requests)
	}
	text, err := os.ReadFile(layerOf(t, n, o.ids["one"]) + "/opt/one/hello")
	must(t, err)
	if string(text) != "#!/bin/sh\necho one\n" {
		t.Errorf("content is %q", text)
	}
	if missing, err := n.State.NotEntitled(context.Background(), "g2", []repo.Digest{o.ids["one"], o.ids["two"]}); err != nil || len(missing) != 1 || missing[0] != o.ids["two"] {
		t.Errorf("g2 is not entitled to %v (%v), want only two", missing, err)
	}
	checkSound(t, n)
}

// TestDryRun: what is there needs no further preparing; what is not is neither
// brought nor anybody's.
func TestDryRun(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.publish(hello("one"), hello("two"))
	n := startNest(t, o)
	addGuest(t, n, "g1")
	addGuest(t, n, "g2")
	refreshed(t, n)
	_, err := prepareAll(n, "g1", o, "one")
	must(t, err)
	requests := o.blobRequests.Load()
	for name, there := range map[string]bool{"one": true, "two": false} {
		var got api.Prepared
		request := api.PrepareRequest{DryRun: true, Packages: []api.PackageRef{o.ref(name)}}
		must(t, n.Prepare(context.Background(), "g2", request, func(e api.Event) error { got = *e.Prepared; return nil }))
		missing, err := n.State.NotEntitled(context.Background(), "g2", []repo.Digest{o.ids[name]})
		if err != nil || got.Cached != there || (got.Fetched == 0) != there || (len(missing) == 0) != there {
			t.Errorf("%s: %+v, not entitled to %v, %v", name, got, missing, err)
		}
	}
	if o.blobRequests.Load() != requests {
		t.Error("a dry run fetched")
	}
}

func layerOf(t *testing.T, n *Nest, id repo.Digest) string {
	t.Helper()
	dir, ok := n.Store.Layer(id)
	if !ok {
		t.Fatalf("layer %s is not placed", id)
	}
	return dir
}

func TestFiftyGuestsOneDownload(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.publish(hello("one"))
	n := startNest(t, o)
	refreshed(t, n)
	var wg sync.WaitGroup
	results := make([]api.Prepared, 50)
	for i := range results {
		guest := fmt.Sprintf("g%d", i)
		addGuest(t, n, guest)
		wg.Go(func() {
			got, err := prepareAll(n, guest, o, "one")
			if err != nil {
				t.Errorf("%s: %v", guest, err)
			}
			results[i] = got["one"]
		})
	}
	wg.Wait()
	var fetched, stored int64
	for _, p := range results {
		fetched += p.Fetched
		stored += p.Stored
	}
	if requests := o.blobRequests.Load(); requests != 1 {
		t.Errorf("the repository was asked for the blob %d times, want once", requests)
	}
	counted, err := n.State.Fetched(context.Background())
	must(t, err)
	if fetched != counted || stored == 0 {
		t.Errorf("guests were told of %d bytes fetched and %d stored, %d were counted", fetched, stored, counted)
	}
	for i := range results {
		missing, err := n.State.NotEntitled(context.Background(), fmt.Sprintf("g%d", i), []repo.Digest{o.ids["one"]})
		if err != nil || len(missing) > 0 {
			t.Errorf("g%d is not entitled: %v", i, err)
		}
	}
	checkSound(t, n)
}

func TestRefusesWhatIsNotInTheIndex(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.publish(hello("one"))
	n := startNest(t, o)
	addGuest(t, n, "g1")
	refreshed(t, n)
	good := o.ref("one")
	other := repo.DigestOf([]byte("other"))
	for name, change := range map[string]func(*api.PackageRef){
		"another package":    func(r *api.PackageRef) { r.ID = other },
		"another name":       func(r *api.PackageRef) { r.Name = "two" },
		"another publisher":  func(r *api.PackageRef) { r.Publisher = "mallory" },
		"another repository": func(r *api.PackageRef) { r.Repository = other },
	} {
		ref := good
		change(&ref)
		err := n.Prepare(context.Background(), "g1", api.PrepareRequest{Packages: []api.PackageRef{ref}}, func(api.Event) error { return nil })
		if err == nil {
			t.Errorf("%s: prepared", name)
			continue
		}
		if code := Explain(err).Code; code != api.NotEntitled && code != api.NotFound {
			t.Errorf("%s: code %s: %v", name, code, err)
		}
	}
	if o.blobRequests.Load() != 0 {
		t.Error("a blob was asked for")
	}
}

// TestHeldIsPrepared: a package that is no longer in the index is prepared for
// the guest that has it, and for no other.
func TestHeldIsPrepared(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.publish(hello("one"))
	n := startNest(t, o)
	addGuest(t, n, "g1")
	addGuest(t, n, "g2")
	refreshed(t, n)
	prepare := func(guest string, ref api.PackageRef) (prepared *api.Prepared, err error) {
		err = n.Prepare(context.Background(), guest, api.PrepareRequest{Packages: []api.PackageRef{ref}}, func(e api.Event) error {
			prepared = e.Prepared
			return nil
		})
		return prepared, err
	}
	ref := o.ref("one")
	_, err := prepare("g1", ref)
	must(t, err)
	ref.Publisher = "gone"
	if p, err := prepare("g1", ref); err != nil || p == nil || !p.Cached {
		t.Errorf("the guest that has it: %v, %v", p, err)
	}
	if _, err := prepare("g2", ref); err == nil || Explain(err).Code != api.NotEntitled {
		t.Errorf("another guest: %v", err)
	}
}

func TestReadServesOneSnapshot(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.publish(hello("one"))
	n := startNest(t, o)
	ctx := context.Background()
	if _, err := n.Read(ctx, o.root, repo.TimestampPath); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before the first refresh: %v", err)
	}
	status := refreshed(t, n)
	old, err := n.Read(ctx, o.root, repo.MetadataPath("snapshot", 2))
	if err != nil {
		old, err = n.Read(ctx, o.root, repo.MetadataPath("snapshot", 3))
	}
	must(t, err)
	for _, object := range append([]repo.Object{o.index.Object}, append(o.index.Root.Tables, o.index.Shards()...)...) {
		b, err := n.Read(ctx, o.root, repo.DataPath(object.Digest))
		if err != nil || repo.ObjectOf(b) != object {
			t.Errorf("index document %s: %v", object.Digest, err)
		}
	}
	record, err := n.Read(ctx, o.root, repo.DataPath(o.ids["one"]))
	must(t, err)
	decoded, err := repo.DecodeRecord(record)
	must(t, err)
	if _, err := n.Read(ctx, o.root, repo.DataPath(decoded.FileList.Digest)); err != nil {
		t.Errorf("file list of a record that was read: %v", err)
	}
	o.publish(hello("two"))
	if next := refreshed(t, n); next.Version <= status.Version {
		t.Errorf("version %d after %d", next.Version, status.Version)
	}
	if len(old) == 0 {
		t.Error("empty snapshot")
	}
	if _, err := prepareDry(n, o, "two"); err != nil {
		t.Error(err)
	}
	for _, path := range []string{"../state.db", "data/../../state.db", "metadata/../metadata/timestamp.json", "data/" + o.ids["one"].Hex(),
		repo.DataPath(repo.DigestOf([]byte("unknown"))), "blobs/x", ""} {
		if _, err := n.Read(ctx, o.root, path); err == nil {
			t.Errorf("read %q", path)
		} else if code := Explain(err).Code; code != api.NotFound {
			t.Errorf("%q: code %s", path, code)
		}
	}
}

func prepareDry(n *Nest, o *origin, name string) (api.Prepared, error) {
	var got api.Prepared
	err := n.Prepare(context.Background(), "nobody", api.PrepareRequest{DryRun: true, Packages: []api.PackageRef{o.ref(name)}}, func(e api.Event) error {
		got = *e.Prepared
		return nil
	})
	return got, err
}

func TestUnreachableServesWhatIsHeld(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.publish(hello("one"), hello("two"))
	n := startNest(t, o)
	addGuest(t, n, "g1")
	refreshed(t, n)
	_, err := prepareAll(n, "g1", o, "one")
	must(t, err)
	o.server.Close()
	list, err := n.Refresh(context.Background())
	must(t, err)
	if list[0].Error == "" || list[0].Version == 0 {
		t.Errorf("status: %+v", list[0])
	}
	if _, err := n.Read(context.Background(), o.root, repo.TimestampPath); err != nil {
		t.Errorf("metadata is gone: %v", err)
	}
	got, err := prepareAll(n, "g1", o, "one")
	if err != nil || !got["one"].Cached {
		t.Errorf("what is held is not ready: %v", err)
	}
	_, err = prepareAll(n, "g1", o, "two")
	if err == nil || Explain(err).Code != api.Unreachable {
		t.Errorf("what is not held: %v", err)
	}
}

func TestGuestDirectorySurvives(t *testing.T) {
	t.Parallel()
	needRoot(t)
	o := newOrigin(t)
	dir := t.TempDir()
	n, err := openNest(t, dir, o, noFaults)
	must(t, err)
	addGuest(t, n, "g1")
	addGuest(t, n, "g1") // again: the same
	before, err := os.Stat(n.guestDir("g1"))
	must(t, err)
	must(t, n.Close())
	must(t, os.MkdirAll(filepath.Join(dir, "run", "guests", "stale", "view", "x"), 0o755))
	n, err = openNest(t, dir, o, noFaults)
	must(t, err)
	defer n.Close()
	after, err := os.Stat(n.guestDir("g1"))
	must(t, err)
	if !os.SameFile(before, after) {
		t.Error("the directory was made anew: guests that have it bound would hold a dead one")
	}
	if _, err := os.Stat(filepath.Join(dir, "run", "guests", "stale")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("directory of an unknown guest: %v", err)
	}
	other := api.GuestRequest{Name: "g1", Owner: repo.DigestOf([]byte("another"))}
	if _, err := n.AddGuest(context.Background(), other); err == nil || Explain(err).Code != api.Conflict {
		t.Errorf("same name, other owner: %v", err)
	}
	must(t, n.RemoveGuest(context.Background(), "g1"))
	if _, err := os.Stat(n.guestDir("g1")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("directory of a removed guest: %v", err)
	}
}

func TestGuestNames(t *testing.T) {
	t.Parallel()
	for name, good := range map[string]bool{
		"g1": true, "a": true, "web-1.example_2": true, "": false, ".": false, "..": false, "a/b": false,
		"A": false, "-a": false, "a-": false, "a\n": false, "ä": false,
	} {
		if err := CheckGuestName(name); (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		}
	}
}
