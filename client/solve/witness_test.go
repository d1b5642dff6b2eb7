package solve

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// drawn is a random universe for libsolv and for us.
type drawn struct {
	available, present []*Package
	job                string // in libsolv's words
}

var drawnUniverse = rapid.Custom(func(t *rapid.T) drawn {
	var d drawn
	d.available, d.present = drawPackages(t)
	for _, p := range slices.Concat(d.available, d.present) {
		// Rich dependencies have another syntax there, and the table of
		// TestRich for us.
		p.Requires = slices.DeleteFunc(p.Requires, func(s string) bool { return strings.HasPrefix(s, "(") })
	}
	d.job = rapid.SampledFrom([]string{"install name a", "install name b", "install name c = 1", "update all packages"}).Draw(t, "job")
	return d
})

// testcase writes the universe in libsolv's form.
func (d drawn) testcase() string {
	var b strings.Builder
	write := func(list []*Package) {
		for _, p := range list {
			fmt.Fprintf(&b, "#>=Pkg: %s %s %s %s\n", p.Name, p.EVR.Version, p.EVR.Release, p.Arch)
			for _, s := range p.Requires {
				fmt.Fprintf(&b, "#>=Req: %s\n", s)
			}
			for _, c := range p.Provides {
				fmt.Fprintf(&b, "#>=Prv: %s\n", c)
			}
			for _, s := range p.Conflicts {
				fmt.Fprintf(&b, "#>=Con: %s\n", s)
			}
			for _, c := range p.Obsoletes {
				fmt.Fprintf(&b, "#>=Obs: %s\n", c)
			}
			// libsolv, unlike rpm, does not imply it.
			fmt.Fprintf(&b, "#>=Prv: %s = %s\n", p.Name, p.EVR)
		}
	}
	b.WriteString("repo system 0 testtags <inline>\n")
	write(d.present)
	b.WriteString("repo available 0 testtags <inline>\n")
	write(d.available)
	b.WriteString("system x86_64 rpm system\njob " + d.job + "\nresult transaction,problems <inline>\n")
	return b.String()
}

// atOdds reports whether one installed package obsoletes another, which no
// package manager leaves behind; libsolv lets the other one go.
func atOdds(present []*Package) bool {
	return slices.ContainsFunc(present, func(p *Package) bool { return slices.ContainsFunc(present, p.obsoletes) })
}

// TestWitness compares with Debian's libsolv over random universes: both find
// a solution or neither does, and nearly always it is the same one.
func TestWitness(t *testing.T) {
	t.Parallel()
	testsolv, err := exec.LookPath("testsolv")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("libsolv-tools is not installed, make deps does it: %v", err)
		}
		t.Skipf("libsolv-tools is not installed: %v", err)
	}
	dir := t.TempDir()
	const runs = 200
	same, compared := 0, 0
	for seed := range runs {
		d := drawnUniverse.Example(seed)
		if atOdds(d.present) {
			continue
		}
		file := filepath.Join(dir, fmt.Sprintf("%d.t", seed))
		if err := os.WriteFile(file, []byte(d.testcase()), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(testsolv, "-r", file).Output()
		if err != nil {
			t.Fatalf("testsolv: %v\n%s", err, d.testcase())
		}
		stages, err := readTestcases(file)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Solve(context.Background(), stages[0].request, newWorld(stages[0].available...), nil)
		_, unsolvable := IsUnsolvable(err)
		if err != nil && !unsolvable {
			t.Fatal(err)
		}
		if refused := strings.Contains(string(out), "problem "); refused != unsolvable {
			t.Errorf("seed %d: libsolv says\n%s, we say %v\n%s", seed, out, err, d.testcase())
			continue
		}
		if unsolvable {
			continue
		}
		compared++
		if want := libsolvChanges(string(out)); slices.Equal(want, changes(got)) {
			same++
		} else {
			t.Logf("seed %d: libsolv %q, we %q\n%s", seed, want, changes(got), d.testcase())
		}
	}
	t.Logf("%d of %d solutions are the same", same, compared)
	if same*100 < compared*98 {
		t.Errorf("%d of %d solutions are the same, want 98%%", same, compared)
	}
}

func libsolvChanges(out string) []string {
	var list []string
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		for i := range fields {
			fields[i], _, _ = strings.Cut(fields[i], "@")
		}
		list = append(list, strings.Replace(strings.Join(fields, " "), "downgrade ", "upgrade ", 1))
	}
	slices.Sort(list)
	return list
}
