package lint

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// pkg is what go list says of one package of this module.
type pkg struct {
	ImportPath   string
	Dir          string
	GoFiles      []string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Deps         []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Dir,GoFiles,Imports,TestImports,XTestImports,Deps", "stork/...").Output()
	if err != nil {
		t.Fatalf("cannot list packages: %v", err)
	}
	var all []pkg
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("cannot read package list: %v", err)
		}
		all = append(all, p)
	}
}

func within(path, room string) bool {
	return path == room || strings.HasPrefix(path, room+"/")
}

// forbidden edges: no package of from may depend on to, directly or through
// others, in code that ships.
var forbidden = []struct{ from, to, why string }{
	{"stork/nestd", "stork/signing/author", "a nest never touches private signing keys"},
	{"stork/client", "github.com/mattn/go-sqlite3", "the client is small and static"},
	{"stork/client", "github.com/anacrolix/torrent", "the client is small and static"},
	{"stork/client", "stork/nestd/internal", "client and nest meet in nestd/api only"},
	{"stork/repo", "stork/nestd/internal", "the repository knows no nest"},
	{"stork/repo", "stork/client", "the repository knows no client"},
	{"stork/signing", "stork/nestd", "trust is decided without the nest"},
	{"stork/signing", "stork/client", "trust is decided below the client"},
	{"stork/nestd/store", "stork/nestd/internal/fetch", "rooms of the nest meet in its core"},
	{"stork/nestd/store", "stork/nestd/internal/attach", "rooms of the nest meet in its core"},
	{"stork/nestd/store", "stork/nestd/internal/state", "rooms of the nest meet in its core"},
	{"stork/nestd/internal/fetch", "stork/nestd/store", "rooms of the nest meet in its core"},
	{"stork/nestd/internal/fetch", "stork/nestd/internal/attach", "rooms of the nest meet in its core"},
	{"stork/nestd/internal/fetch", "stork/nestd/internal/state", "rooms of the nest meet in its core"},
	{"stork/nestd/internal/attach", "stork/nestd/store", "rooms of the nest meet in its core"},
	{"stork/nestd/internal/attach", "stork/nestd/internal/fetch", "rooms of the nest meet in its core"},
	{"stork/nestd/internal/attach", "stork/nestd/internal/state", "rooms of the nest meet in its core"},
	{"stork/nestd/internal/state", "stork/nestd/store", "rooms of the nest meet in its core"},
	{"stork/nestd/internal/state", "stork/nestd/internal/fetch", "rooms of the nest meet in its core"},
	{"stork/nestd/internal/state", "stork/nestd/internal/attach", "rooms of the nest meet in its core"},
	{"stork/client", "stork/fixtures", "test packages do not ship"},
	{"stork/nestd", "stork/fixtures", "test packages do not ship"},
	{"stork/repo", "stork/fixtures", "test packages do not ship"},
	{"stork/signing", "stork/fixtures", "test packages do not ship"},
	{"stork/client/solve", "stork/nestd", "the solver is pure"},
	{"stork/client/solve", "stork/signing", "the solver is pure"},
	{"stork/client/share", "stork/signing", "placing files needs no trust decisions"},
	{"stork/client/cli/guest", "github.com/theupdateframework/go-tuf/v2", "what a guest runs first starts in no time"},
	{"stork/client/cli/guest", "github.com/klauspost/compress", "what a guest runs first starts in no time"},
	{"stork/client/cli/guest", "stork/client/direct", "what a guest runs first starts in no time"},
	{"stork/client/cli/guest", "stork/client/publish", "what a guest runs first starts in no time"},
}

func TestForbiddenEdges(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		for _, edge := range forbidden {
			if !within(p.ImportPath, edge.from) {
				continue
			}
			for _, dep := range p.Deps {
				if within(dep, edge.to) {
					t.Errorf("%s depends on %s: %s", p.ImportPath, dep, edge.why)
				}
			}
		}
	}
}

// owners says which package alone may import a library in code that ships,
// so that its types stay behind that package.
var owners = map[string][]string{
	"github.com/cavaliergopher/rpm":           {"stork/repo/rpmfile"},
	"github.com/theupdateframework/go-tuf/v2": {"stork/signing", "stork/signing/author"},
	"github.com/mattn/go-sqlite3":             {"stork/nestd/internal/state"},
	"github.com/knqyf263/go-rpm-version":      {"stork/repo"},
	"github.com/landlock-lsm/go-landlock":     {"stork/nestd/confine"},
	"github.com/ulikunitz/xz":                 {"stork/repo/rpmfile"},
	"github.com/google/rpmpack":               {"stork/fixtures"},
	"github.com/prometheus/client_golang":     {"stork/repo/internal/server"},
	"github.com/coreos/go-systemd/v22":        {"stork/nestd/internal/cli"},
	"github.com/vbauerster/mpb/v8":            {"stork/client/cli/show"},
	"github.com/anacrolix/torrent":            {"stork/nestd/internal/fetch/transfer/swarm"},
	"github.com/yuin/gopher-lua":              {"stork/client/scriptlet/lua"},
	"github.com/alecthomas/mango-kong":        {"stork/repo/program"},
	"github.com/willabides/kongplete":         {"stork/repo/program"},
}

func TestLibrariesHaveOneOwner(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		for _, imported := range p.Imports {
			for library, allowed := range owners {
				if within(imported, library) && !slices.Contains(allowed, p.ImportPath) {
					t.Errorf("%s imports %s, which belongs to %v", p.ImportPath, imported, allowed)
				}
			}
		}
	}
}

// TestVocabularyIsSmall keeps repo to the standard library and version
// comparison.
func TestVocabularyIsSmall(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		if p.ImportPath != "stork/repo" {
			continue
		}
		for _, imported := range p.Imports {
			if strings.Contains(imported, ".") && imported != "github.com/knqyf263/go-rpm-version" {
				t.Errorf("stork/repo imports %s", imported)
			}
		}
	}
}
