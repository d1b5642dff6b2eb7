package direct

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"stork/fixtures"
	"stork/fixtures/world"
	"stork/nestd/api"
	"stork/nestd/unpack"
	"stork/repo"
	"stork/repo/durable"
)

// TestMain lets this test binary be the unpacker, which is a real sandboxed
// process here as in production.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == UnpackerCommand {
		os.Exit(unpack.Main(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// needRoot skips what only root can do.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("needs root, and in CI everything is there")
	}
	t.Skip("unpacking needs root")
}

// hasty gives up soon.
func hasty() patience {
	return patience{answer: 300 * time.Millisecond, window: 300 * time.Millisecond, least: 1000, tries: 3, pause: time.Millisecond}
}

func openOrigin(t *testing.T, dir string, pins *api.Pins, disk durable.Disk) *Origin {
	t.Helper()
	o, err := Open(Options{Dir: dir, Pins: pins, Disk: disk, Exe: "/proc/self/exe"})
	if err != nil {
		t.Fatal(err)
	}
	o.web = newWeb(hasty())
	t.Cleanup(func() {
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	})
	return o
}

// blobSize is what hello's blob has at least: content that does not compress.
const blobSize = 40000

// hello is a package with a shared and a private file.
func hello() fixtures.Spec {
	return fixtures.Spec{Name: "hello", Files: []fixtures.File{
		{Path: "/usr/share/hello/data", Content: noise(blobSize)},
		fixtures.ConfigFile("/etc/hello.conf", "a = 1\n"),
	}}
}

func noise(n int) []byte {
	b, x := make([]byte, n), uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}

// published is a repository in which alice has published hello.
func published(t *testing.T) (*world.Repository, *world.Publisher) {
	t.Helper()
	r := world.New(t)
	alice := r.Join("alice")
	alice.Publish(hello())
	alice.PublishPolicy(0, alice.Allow("*"))
	return r, alice
}

func prepareHello(o *Origin, alice *world.Publisher) (api.Prepared, error) {
	list, err := o.Prepare(context.Background(), api.PrepareRequest{Packages: []api.PackageRef{alice.Ref("hello")}}, nil)
	if err != nil {
		return api.Prepared{}, err
	}
	return list[0], nil
}

// checkLayer wants hello's layer to be there, and no blob left in the spool.
func checkLayer(t *testing.T, o *Origin, alice *world.Publisher) {
	t.Helper()
	id := alice.IDs["hello"]
	layers, err := o.Layers(context.Background(), []repo.Digest{id})
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(layers[id], "usr/share/hello/data"))
	if err != nil || string(b) != string(noise(blobSize)) {
		t.Errorf("%d bytes of data, %v", len(b), err)
	}
	if left := spooled(t, o.o.Dir); len(left) > 0 {
		t.Errorf("spool holds %q", left)
	}
}

func spooled(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, spoolName))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
