package testbed

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestWholePath is Up, Publish, an install, Stats and Down with Stork's own
// programs.
func TestWholePath(t *testing.T) {
	t.Parallel()
	bin := os.Getenv("STORK_BIN")
	if bin == "" {
		skipOrFail(t, "needs STORK_BIN, the folder with Stork's programs")
	}
	if _, err := exec.LookPath("rpmbuild"); err != nil {
		skipOrFail(t, "needs rpmbuild")
	}
	if !privileged() {
		skipOrFail(t, "needs root")
	}
	ctx := context.Background()
	rpm := buildPackage(t)
	tb, err := Up(ctx, Options{Dir: filepath.Join(t.TempDir(), "bed"), Nests: 2, Guests: 2, Bin: bin})
	must(t, err)
	t.Cleanup(func() {
		must(t, Down(context.Background(), tb.dir))
		if left := leftovers(t, tb); len(left) != 0 {
			t.Errorf("processes %v are left", left)
		}
	})
	before, err := tb.Stats(ctx)
	must(t, err)
	must(t, tb.Publish(ctx, "alice", []string{rpm}))
	for _, guest := range tb.Guests("n1") {
		if out, status := sh(t, tb, guest, "stork install -y testbed-hello"); status != 0 {
			t.Fatalf("%s: status %d: %s", guest, status, out)
		}
		if out, _ := sh(t, tb, guest, "/opt/testbed-hello/hello"); out != "hello from "+guest {
			t.Errorf("%s: the program says %q", guest, out)
		}
	}
	after, err := tb.Stats(ctx)
	must(t, err)
	if n := after.Repo.BlobRequests - before.Repo.BlobRequests; n != 1 {
		t.Errorf("%d requests for blobs, want 1", n)
	}
	n1, n2 := after.Nests["n1"], after.Nests["n2"]
	if n1.Layers != 1 || n1.BytesFetched != after.Repo.BlobBytesServed || n1.StoreBytes == 0 || n1.Objects == 0 || n2.Layers != 0 || n2.BytesFetched != 0 {
		t.Errorf("nests: %+v and %+v; repository %+v", n1, n2, after.Repo)
	}
	if g := after.Guests["n1g1"]; g.Mounts == 0 || g.PrivateBytes == 0 {
		t.Errorf("a guest with a package: %+v", g)
	}
	if g := after.Guests["n2g1"]; g.Mounts != 0 || g.PrivateBytes > before.Guests["n2g1"].PrivateBytes {
		t.Errorf("a guest without packages: %+v, before %+v", g, before.Guests["n2g1"])
	}
	// Somebody else's package is published, and refused.
	must(t, tb.Publish(ctx, "bob", []string{rpm}))
}

func buildPackage(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	spec := filepath.Join(dir, "hello.spec")
	must(t, os.WriteFile(spec, []byte(`Name: testbed-hello
Version: 1
Release: 1
Summary: Says hello
License: MIT
BuildArch: noarch
%description
Says hello.
%install
mkdir -p %{buildroot}/opt/testbed-hello
printf '#!/bin/sh\necho hello from $(hostname)\n' > %{buildroot}/opt/testbed-hello/hello
chmod 755 %{buildroot}/opt/testbed-hello/hello
%files
/opt/testbed-hello
`), 0o600))
	var log bytes.Buffer
	cmd := exec.Command("rpmbuild", "-bb", "--define", "_topdir "+dir, spec)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Run(); err != nil {
		t.Fatalf("rpmbuild: %v: %s", err, log.String())
	}
	return filepath.Join(dir, "RPMS", "noarch", "testbed-hello-1-1.noarch.rpm")
}
