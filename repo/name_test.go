package repo

import (
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	t.Parallel()
	name := func(s string) error { _, err := ParseName(s); return err }
	arch := func(s string) error { _, err := ParseArch(s); return err }
	publisher := func(s string) error { _, err := ParsePublisher(s); return err }
	role := func(s string) error { _, err := ParseRole(s); return err }
	tests := []struct {
		what      string
		parse     func(string) error
		good, bad []string
	}{
		{"name", name, []string{"nginx", "_x", "gtk+", "libstdc++", "a.b_c-d~e^f", "0ad", strings.Repeat("a", 255)},
			[]string{"", "-a", ".a", "+a", "a b", "a/b", "a\n", "é", strings.Repeat("a", 256)}},
		{"arch", arch, []string{"x86_64", "noarch", "aarch64"}, []string{"", "X86", "a-b", "a.b", strings.Repeat("a", 33)}},
		{"publisher", publisher, []string{"a", "alice", "a-1", strings.Repeat("a", 32)},
			[]string{"", "-a", "a-", "Alice", "a_b", "a.b", "a/b", "é", strings.Repeat("a", 33)}},
		{"role", role, []string{"p-alice", "o-alice"}, []string{"", "p-", "x-alice", "palice", "p-Alice", "p-a/b", "root"}},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			for _, good := range tt.good {
				if err := tt.parse(good); err != nil {
					t.Errorf("%q: %v", good, err)
				}
			}
			for _, bad := range tt.bad {
				if tt.parse(bad) == nil {
					t.Errorf("%q was accepted", bad)
				}
			}
		})
	}
	if r := Publisher("alice").OwnerRole(); r.Publisher() != "alice" || !r.IsOwner() || Publisher("a").PublisherRole().IsOwner() {
		t.Errorf("role %q of %q", r, r.Publisher())
	}
}

func TestLayout(t *testing.T) {
	t.Parallel()
	d := DigestOf([]byte("abc"))
	tests := []struct{ got, want string }{
		{MetadataPath("p-alice", 12), "metadata/12.p-alice.json"},
		{KeyDocumentPath("o-bob", 3), "keys/o-bob/3.json"},
		{DataPath(d), "data/ba/" + d.Hex()},
		{BlobPath(d), "blobs/ba/" + d.Hex()},
		{PackPath(d), "packs/ba/" + d.Hex()},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("path %q, want %q", tt.got, tt.want)
		}
	}
}
