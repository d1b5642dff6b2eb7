package share

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"stork/fixtures"
	"stork/repo"
)

// configCase is one file's life: how the old and the new package have it, and
// what the guest's owner did in between. Empty content: not in the package.
type configCase struct {
	oldFlags, newFlags []repo.FileFlag
	old, new           string
	guest              string
}

const (
	untouched = "untouched"
	edited    = "edited"
	deleted   = "deleted"
	likeNew   = "like the new one"
	linked    = "a symlink"
)

func (c configCase) String() string {
	return fmt.Sprintf("old %q %v, new %q %v, guest %s", c.old, c.oldFlags, c.new, c.newFlags, c.guest)
}

// configCases is every combination that an upgrade, a first install on an
// existing file (old is empty) and a removal (new is empty) can meet.
func configCases(m Method) []configCase {
	flagSets := [][]repo.FileFlag{nil, {repo.Config}, {repo.Config, repo.NoReplace}, {repo.Config, repo.MissingOK}}
	var cases []configCase
	for _, old := range []string{"", "one"} {
		for _, new := range []string{"", "one", "two"} {
			for i, oldFlags := range flagSets {
				for j, newFlags := range flagSets {
					for _, guest := range []string{untouched, edited, deleted, likeNew, linked} {
						c := configCase{oldFlags, newFlags, old, new, guest}
						switch {
						case old == "" && (new == "" || i > 0 || newFlags == nil && guest != untouched):
							continue // nothing, twice the same, or a conflict for Stork
						case new == "" && j > 0:
							continue
						case m != Copy && old != "" && oldFlags == nil && guest != untouched:
							continue // a shared file can not be changed
						}
						cases = append(cases, c)
					}
				}
			}
		}
	}
	return cases
}

// act does what the guest's owner does.
func (c configCase) act(t *testing.T, at string) {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	switch c.guest {
	case untouched:
		return
	case deleted:
		if c.old != "" {
			must(os.Remove(at))
		}
		return
	}
	if c.old != "" {
		must(os.Remove(at))
	}
	must(os.MkdirAll(filepath.Dir(at), 0o755))
	switch c.guest {
	case linked:
		must(os.Symlink("elsewhere", at))
	case likeNew:
		must(os.WriteFile(at, []byte(c.new), 0o644))
	default:
		must(os.WriteFile(at, []byte("edited"), 0o644))
	}
}

// TestConfigAsRPM compares with rpm itself: both go through the same cases,
// and the same files with the same content must be left.
func TestConfigAsRPM(t *testing.T) {
	t.Parallel()
	fixtures.NeedTool(t, "rpm")
	for _, m := range methods() {
		t.Run(string(m), func(t *testing.T) {
			t.Parallel()
			compareWithRPM(t, m, configCases(m))
		})
	}
}

func compareWithRPM(t *testing.T, m Method, cases []configCase) {
	w := newGuest(t, m)
	witness := filepath.Join(w.dir, "witness")
	w.must(os.MkdirAll(filepath.Join(witness, "etc"), 0o755))
	specs := [2]fixtures.Spec{{Name: "p", Version: "1"}, {Name: "p", Version: "2"}}
	var files [2][]repo.File
	for i, c := range cases {
		p := fmt.Sprintf("/etc/case/%03d", i)
		for v, half := range []struct {
			content string
			flags   []repo.FileFlag
		}{{c.old, c.oldFlags}, {c.new, c.newFlags}} {
			if half.content == "" {
				continue
			}
			text := fixtures.Text(p, half.content)
			text.Flags = half.flags
			specs[v].Files = append(specs[v].Files, text)
			files[v] = append(files[v], file(p, half.content, half.flags...))
		}
	}
	v1, v2 := w.layer("p-1", files[0]...), w.layer("p-2", files[1]...)
	runRPM(t, w, witness, specs[0])
	w.change(m, []Layer{v1})
	for i, c := range cases {
		for _, root := range []string{witness, w.root} {
			c.act(t, filepath.Join(root, fmt.Sprintf("etc/case/%03d", i)))
		}
	}
	runRPM(t, w, witness, specs[1])
	w.change(m, []Layer{v2}, v1)
	compareCases(t, w, witness, cases, "upgrade")
	erase := exec.Command("rpm", "--root", witness, "-e", "p")
	if out, err := erase.CombinedOutput(); err != nil {
		t.Fatalf("rpm -e: %v: %s", err, out)
	}
	w.change(m, nil, v2)
	compareCases(t, w, witness, cases, "removal")
}

func runRPM(t *testing.T, w *world, root string, spec fixtures.Spec) {
	t.Helper()
	at := filepath.Join(w.dir, spec.Name+spec.Version+".rpm")
	w.must(os.WriteFile(at, fixtures.MustRPM(t, spec), 0o644))
	cmd := exec.Command("rpm", "--root", root, "-U", "--nodeps", "--nosignature", at)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("rpm: %v: %s", err, out)
	}
}

func compareCases(t *testing.T, w *world, witness string, cases []configCase, when string) {
	t.Helper()
	want, got := caseFiles(t, witness), caseFiles(t, w.root)
	for i, c := range cases {
		name := fmt.Sprintf("%03d", i)
		if g, r := strings.Join(got[name], ", "), strings.Join(want[name], ", "); g != r {
			t.Errorf("%s of %v:\n got %s\nwant %s", when, c, g, r)
		}
	}
}

// caseFiles lists what is left of every case: its file and what was put
// beside it.
func caseFiles(t *testing.T, root string) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	list, err := os.ReadDir(filepath.Join(root, "etc/case"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for _, d := range list {
		at := filepath.Join(root, "etc/case", d.Name())
		content, err := os.Readlink(at)
		if strings.HasPrefix(content, inside+"/") {
			at, err = filepath.Join(root, content), os.ErrInvalid // shared: what it leads to counts
		}
		if err != nil {
			b, err := os.ReadFile(at)
			if err != nil {
				t.Fatal(err)
			}
			content = string(b)
		}
		name := d.Name()[:3]
		found[name] = append(found[name], fmt.Sprintf("%s=%q", d.Name()[3:], content))
		slices.Sort(found[name])
	}
	return found
}
