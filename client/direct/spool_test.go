package direct

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"stork/fixtures"
	"stork/fixtures/world"
	"stork/nestd/api"
	"stork/repo"
	"stork/repo/durable"
)

// TestWrongCopyInTheSpool: what an interrupted run left under the blob's name
// is as long as the blob and is not the blob. The first run says so and
// throws it away, and the second has nothing to trip over.
func TestWrongCopyInTheSpool(t *testing.T) {
	t.Parallel()
	needRoot(t)
	tests := []struct {
		name string
		harm func(blob []byte) []byte
	}{
		{"no package", func(blob []byte) []byte { return make([]byte, len(blob)) }},
		{"damaged content", func(blob []byte) []byte { blob[len(blob)-blobSize/2] ^= 1; return blob }},
		{"another file list", func([]byte) []byte {
			other := hello()
			other.Summary, other.Files[1].Flags = "hello", []repo.FileFlag{repo.Config}
			return fixtures.MustRPM(t, other)
		}},
		{"another record", func([]byte) []byte {
			other := hello()
			other.Summary = "olleh"
			return fixtures.MustRPM(t, other)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := world.New(t)
			alice := r.Join("alice")
			spec := hello()
			spec.Summary = "hello"
			alice.Publish(spec)
			alice.PublishPolicy(0, alice.Allow("*"))
			o := openOrigin(t, world.TempDir(t), alice.Pins(), durable.Disk{})
			blob := fixtures.MustRPM(t, spec)
			name, harmed := repo.DigestOf(blob).Hex(), tt.harm(blob)
			if len(harmed) != len(blob) {
				t.Fatalf("%d bytes in the place of %d", len(harmed), len(blob))
			}
			if err := os.WriteFile(filepath.Join(o.o.Dir, spoolName, name), harmed, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := prepareHello(o, alice)
			var wire *api.Error
			if !errors.As(err, &wire) || wire.Code != api.Untrusted || len(spooled(t, o.o.Dir)) != 0 {
				t.Errorf("got %v with %q in the spool; want untrusted and nothing", err, spooled(t, o.o.Dir))
			}
			if _, err := prepareHello(o, alice); err != nil {
				t.Fatalf("the next run: %v", err)
			}
			checkLayer(t, o, alice)
		})
	}
}
