package cli

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"stork/nestd/api"
)

func TestStatsText(t *testing.T) {
	t.Parallel()
	stats := &api.StoreStats{
		Layers: 3, Trees: 1, Unread: 2,
		Packaged: api.Amount{Files: 48000, Bytes: 1 << 30}, Stored: api.Amount{Files: 28001, Bytes: 600 << 20},
		Saved:      api.Savings{Versions: api.Amount{Files: 20000, Bytes: 424 << 20}},
		LinkCopies: api.Amount{Files: 1, Bytes: 4096}, Times: api.Amount{Files: 3, Bytes: 12288},
		Guests:     api.Amount{Files: 96000, Bytes: 2 << 30},
		LayerBytes: 40 << 20, DocumentBytes: 8 << 20, DatabaseBytes: 1 << 20,
	}
	const want = `3 packages, 1 environment

                                            FILES      ON DISK
as packaged                                 48000      1.0 GiB
  twice in one package                          0          0 B
  in other versions of the package         -20000     -424 MiB
  in other packages of the publisher            0          0 B
  in packages of other publishers               0          0 B
  again, for want of links                     +1     +4.0 KiB
stored                                      28001      600 MiB
  same content, other time                      3       12 KiB
directories, symlinks of packages                       40 MiB
directories, symlinks of environments                      0 B
directories of stored files                                0 B
file lists, records                                    8.0 MiB
database, with the index                               1.0 MiB

copies that further guests do without       96000      2.0 GiB

The file lists of 2 packages are lost: they are not counted. See nestd store check.
`
	if diff := cmp.Diff(want, statsText(stats)); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
}
