package nest

import (
	"context"
	"math/rand/v2"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"stork/fixtures"
	"stork/nestd/api"
)

// TestDiskFull prepares more than the disk holds: the code says so, nothing is
// half-done, and what fits is prepared afterwards.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	needRoot(t)
	content := make([]byte, 6<<20)
	_, err := rand.NewChaCha8([32]byte{1}).Read(content)
	must(t, err)
	o := newOrigin(t)
	big := hello("big")
	big.Files = append(big.Files, fixtures.File{Path: "/opt/big/content", Content: content})
	o.publish(hello("small"), big)
	for name, size := range map[string]string{
		"in the spool":    "size=5m", // the blob does not fit
		"in the unpacker": "size=9m", // the blob fits, what is in it does not
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := unix.Mount("tmpfs", dir, "tmpfs", 0, size); err != nil {
				if os.Getenv("CI") == "true" {
					t.Fatalf("needs to mount: %v", err)
				}
				t.Skipf("needs to mount: %v", err)
			}
			defer func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) }()
			n, err := openNest(t, dir, o, noFaults)
			must(t, err)
			defer func() { must(t, n.Close()) }()
			addGuest(t, n, "g1")
			refreshed(t, n)
			_, err = prepareAll(n, "g1", o, "big")
			if err == nil || Explain(err).Code != api.NoSpace {
				t.Errorf("code %q: %v", Explain(err).Code, err)
			}
			if stats, err := n.StoreStats(context.Background()); err != nil || stats.Objects != 0 {
				t.Errorf("stats: %+v, %v", stats, err)
			}
			if entries, err := os.ReadDir(dir + "/spool"); err != nil || len(entries) > 1 {
				t.Errorf("spool: %v, %v", entries, err)
			}
			if _, err := prepareAll(n, "g1", o, "small"); err != nil {
				t.Errorf("what fits: %v", err)
			}
			checkSound(t, n)
		})
	}
}
