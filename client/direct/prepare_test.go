package direct

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"

	"stork/fixtures"
	"stork/fixtures/world"
	"stork/nestd/api"
	"stork/repo"
	"stork/repo/durable"
)

func newServer(t *testing.T, handle http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(handle)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.URL
}

// TestPrepare goes the whole way, and the way back.
func TestPrepare(t *testing.T) {
	t.Parallel()
	needRoot(t)
	_, alice := published(t)
	dir := world.TempDir(t)
	o := openOrigin(t, dir, alice.Pins(), durable.Disk{})
	ctx, request := context.Background(), api.PrepareRequest{Packages: []api.PackageRef{alice.Ref("hello")}, DryRun: true}
	list, err := o.Prepare(ctx, request, nil)
	if err != nil || len(list) != 1 || list[0].Fetched < blobSize || list[0].Cached {
		t.Fatalf("dry run: %+v, %v", list, err)
	}
	if left := spooled(t, dir); len(left) > 0 {
		t.Errorf("a dry run fetched %q", left)
	}
	request.DryRun = false
	phases := map[api.Phase]bool{}
	list, err = o.Prepare(ctx, request, func(e api.Event) { phases[e.Progress.Phase] = true })
	if err != nil {
		t.Fatal(err)
	}
	one := list[0]
	if one.Fetched < blobSize || one.Stored < blobSize || len(one.Private) != 1 || one.Private[0].Path != "/etc/hello.conf" {
		t.Errorf("got %+v", one)
	}
	if !phases[api.Fetching] || !phases[api.Unpacking] {
		t.Errorf("phases %v", phases)
	}
	checkLayer(t, o, alice)
	id := alice.IDs["hello"]
	if err := o.Drop(ctx, []repo.Digest{id}); err != nil {
		t.Fatal(err)
	}
	if layers, err := o.Layers(ctx, []repo.Digest{id}); err == nil {
		t.Errorf("after the drop: %v", layers)
	}
}

// TestOtherPackage: the package is not what its signed record says.
func TestOtherPackage(t *testing.T) {
	t.Parallel()
	needRoot(t)
	r := world.New(t)
	alice := r.Join("alice")
	alice.PublishEntries(alice.Upload(hello(), func(record *repo.Record) { record.Requires = nil; record.Summary = "Something else" }))
	o := openOrigin(t, world.TempDir(t), alice.Pins(), durable.Disk{})
	_, err := prepareHello(o, alice)
	var wire *api.Error
	if !errors.As(err, &wire) || wire.Code != api.Untrusted {
		t.Errorf("got %v, want untrusted", err)
	}
	// The record that the repository shows under the digest is another one.
	path := repo.DataPath(alice.IDs["hello"])
	r.Write(path, append(r.Read(path), ' '))
	if _, err = prepareHello(o, alice); !errors.As(err, &wire) || wire.Code != api.Untrusted {
		t.Errorf("changed record: got %v, want untrusted", err)
	}
}

// TestLeftovers: what a crash left in the store goes when it is next opened.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	needRoot(t)
	_, alice := published(t)
	dir := world.TempDir(t)
	o := openOrigin(t, dir, alice.Pins(), durable.Disk{})
	if _, err := prepareHello(o, alice); err != nil {
		t.Fatal(err)
	}
	if err := o.store.Close(); err != nil { // as a killed process leaves it
		t.Fatal(err)
	}
	o.store = nil
	if err := o.openStore(context.Background()); err != nil {
		t.Fatal(err)
	}
	stats, err := o.store.Stats(context.Background(), nil, nil, nil)
	if err != nil || stats.Stored.Files != 0 {
		t.Errorf("left: %+v, %v", stats, err)
	}
	if layers, err := o.store.Layers(); err != nil || len(layers) != 0 {
		t.Errorf("left: %v, %v", layers, err)
	}
}

// TestFaults fails every step of preparing and dropping, in both flavours; a
// new run does it all the same.
func TestFaults(t *testing.T) {
	t.Parallel()
	needRoot(t)
	r := world.New(t)
	alice := r.Join("alice")
	alice.Publish(fixtures.Spec{Name: "hello", Files: []fixtures.File{fixtures.Text("/opt/h", "h")}})
	failed := errors.New("disk fault")
	work := func(dir string, disk durable.Disk) error {
		o, err := Open(Options{Dir: dir, Pins: alice.Pins(), Disk: disk, Exe: "/proc/self/exe"})
		if err != nil {
			return err
		}
		_, err = prepareHello(o, alice)
		if err == nil {
			_, err = o.Layers(context.Background(), []repo.Digest{alice.IDs["hello"]})
		}
		if err == nil {
			err = o.Drop(context.Background(), []repo.Digest{alice.IDs["hello"]})
		}
		return errors.Join(err, o.Close())
	}
	for _, after := range []bool{false, true} {
		for k := 1; ; k++ {
			dir := world.TempDir(t)
			var n atomic.Int64
			fault := func(durable.Step, string) (error, error) {
				if n.Add(1) != int64(k) {
					return nil, nil
				}
				if after {
					return nil, failed
				}
				return failed, nil
			}
			err := work(dir, durable.Disk{Fault: fault})
			if n.Load() < int64(k) {
				if err != nil || k < 10 {
					t.Errorf("%d steps without a fault: %v", n.Load(), err)
				}
				break
			}
			if err := work(dir, durable.Disk{}); err != nil {
				t.Fatalf("step %d (after: %v) failed, then: %v", k, after, err)
			}
			if left, err := os.ReadDir(filepath.Join(dir, "store", "layers")); err != nil || countFiles(t, filepath.Join(dir, "store", "layers")) > 0 {
				t.Fatalf("step %d (after: %v): layers %v left, %v", k, after, left, err)
			}
		}
	}
}

func countFiles(t *testing.T, dir string) int {
	t.Helper()
	n := 0
	err := filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestQuery asks through the index that lies in the repository.
func TestQuery(t *testing.T) {
	t.Parallel()
	r, alice := published(t)
	alice.Publish(fixtures.Spec{Name: "other", Provides: []string{"hello-data"}})
	o := openOrigin(t, t.TempDir(), alice.Pins(), durable.Disk{})
	ctx, root := context.Background(), alice.IndexRoot()
	answer, err := o.Query(ctx, api.QueryRequest{Queries: []api.Query{
		{Index: root.Digest, Kind: api.ByGlob, Terms: []string{"*"}},
		{Index: root.Digest, Kind: api.ByCapability, Terms: []string{"hello-data", "nothing"}},
		{Index: root.Digest, Kind: api.ByName, Terms: []string{"nothing"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	var counts []int
	for _, result := range answer.Results {
		counts = append(counts, len(result.Entries))
	}
	if !slices.Equal(counts, []int{2, 1, 0}) {
		t.Errorf("entries %v, want 2, 1, 0", counts)
	}
	if _, err := o.Query(ctx, api.QueryRequest{Queries: []api.Query{{Index: repo.DigestOf(nil), Kind: api.ByName}}}); err == nil {
		t.Error("an index that is nowhere was found")
	}
	r.Write(repo.DataPath(root.Digest), []byte("{}"))
	o = openOrigin(t, t.TempDir(), alice.Pins(), durable.Disk{})
	if _, err := o.Query(ctx, api.QueryRequest{Queries: []api.Query{{Index: root.Digest, Kind: api.ByName}}}); err == nil {
		t.Error("a replaced index root was read")
	}
}
