package runtime

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

// TestGolden holds what is printed for each runtime, as text and as JSON, to
// files. Regenerate them with -update, and look at the difference.
func TestGolden(t *testing.T) {
	t.Parallel()
	for _, name := range []Name{Nspawn, LXC, Podman, Docker, QEMU, Plain} {
		for _, kind := range []string{"own", "host", "placed"} {
			if kind == "placed" && !name.NeedsPlacement() {
				continue // says the same
			}
			t.Run(string(name)+"-"+kind, func(t *testing.T) {
				t.Parallel()
				rootUser := uint32(0)
				if kind == "host" {
					rootUser = 200000
				}
				c, err := For(name, Guest{Name: "g1", Directory: "/var/lib/nestd/run/guests/g1", Target: "/run/stork",
					HostUserNS: kind == "host", Placement: kind == "placed", RootUser: rootUser,
					Sockets: "/var/lib/nestd/run/vm/g1", QEMUUser: "qemu", Nestd: []string{"/usr/bin/nestd"}})
				if err != nil {
					t.Fatal(err)
				}
				doc, err := json.MarshalIndent(c, "", "  ")
				if err != nil {
					t.Fatal(err)
				}
				golden(t, string(name)+"-"+kind+".txt", c.Text())
				golden(t, string(name)+"-"+kind+".json", string(doc)+"\n")
			})
		}
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// TestHostileDirectories: no character that means something to a runtime or
// to a shell gets into what is printed.
func TestHostileDirectories(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"", "g1", "/a b/g1", "/a:b", "/a,b", "/a\nb", "/a'b", `/a"b`, `/a\b`, "/a$b", "/a%b", "/a;b",
		"/a//b", "/a/", "/a/../b", "/a/./b", "/é"} {
		for _, name := range []Name{Nspawn, LXC, Podman, Docker, QEMU, Plain} {
			if c, err := For(name, Guest{Name: "g1", Directory: dir, Target: "/run/stork", Sockets: "/s", Nestd: []string{"/n"}}); err == nil {
				t.Errorf("%s: %q gives %q", name, dir, c.Text())
			}
		}
	}
}

// TestArgumentsNeedNoQuotes: what `nestd guest show --arguments` prints can be
// used as it is, in $(…).
func TestArgumentsNeedNoQuotes(t *testing.T) {
	t.Parallel()
	for _, name := range []Name{Nspawn, LXC, Podman, Docker, QEMU, Plain} {
		c, err := For(name, Guest{Name: "g1", Directory: "/d/g1", Target: "/run/stork", Sockets: "/s", Nestd: []string{"/n"}})
		if err != nil {
			t.Fatal(err)
		}
		for _, argument := range c.Arguments {
			if strings.ContainsAny(argument, " \t\n'\"\\$*?[]{}()<>|&;`!~#") {
				t.Errorf("%s: %q", name, argument)
			}
		}
	}
}

func TestUnknownRuntime(t *testing.T) {
	t.Parallel()
	if _, err := For("lxd", Guest{Name: "g1", Directory: "/d/g1", Target: "/run/stork"}); err == nil || !strings.Contains(err.Error(), "nspawn") {
		t.Errorf("got %v, want an error that names the runtimes", err)
	}
}
