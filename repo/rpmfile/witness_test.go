package rpmfile_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"stork/fixtures"
	"stork/repo"
	"stork/repo/rpmfile"
)

// build reads a package file.
func build(t *testing.T, path string) (*repo.Record, *repo.FileList) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	file, err := rpmfile.FromStart(f)
	if err != nil {
		t.Fatal(err)
	}
	pkg, err := rpmfile.Build(file)
	if err != nil {
		t.Fatal(err)
	}
	record, list := pkg.Record, pkg.Files
	return record, list
}

// query asks rpm about a package file.
func query(t *testing.T, path string, args ...string) string {
	t.Helper()
	fixtures.NeedTool(t, "rpm")
	cmd := exec.Command("rpm", append([]string{"-qp", "--nosignature", "--nodigest"}, append(args, path)...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.Output()
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("rpm can not read %s: %v", filepath.Base(path), err)
		}
		t.Skipf("this rpm can not read %s: %v", filepath.Base(path), err)
	}
	return string(out)
}

// TestRealPackagesAgainstRPM compares what we read of real packages with what
// rpm reads.
func TestRealPackagesAgainstRPM(t *testing.T) {
	t.Parallel()
	for _, path := range fixtures.RealRPMs(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			compare(t, path)
		})
	}
}

func compare(t *testing.T, path string) {
	t.Helper()
	record, list := build(t, path)
	compareHeader(t, path, record)
	compareDependencies(t, path, record)
	compareScripts(t, path, record)
	compareFiles(t, path, list)
}

func compareHeader(t *testing.T, path string, r *repo.Record) {
	t.Helper()
	got := fmt.Sprintf("%s|%d|%s|%s|%s|%d|%s|%s", r.Name, r.Epoch, r.Version, r.Release, r.Arch, r.BuildTime, r.License, r.Source)
	want := query(t, path, "--qf", "%{NAME}|%|EPOCH?{%{EPOCH}}:{0}||%{VERSION}|%{RELEASE}|%{ARCH}|%{BUILDTIME}|%{LICENSE}|%{SOURCERPM}")
	if got != want {
		t.Errorf("header is %q, rpm says %q", got, want)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if r.Blob.Size != info.Size() {
		t.Errorf("blob has %d bytes, the file %d", r.Blob.Size, info.Size())
	}
}

func compareDependencies(t *testing.T, path string, r *repo.Record) {
	t.Helper()
	texts := func(list []repo.Capability) []string {
		var all []string
		for _, c := range list {
			all = append(all, c.String())
		}
		return all
	}
	self := repo.Capability{Name: string(r.Name), Op: repo.Equal, EVR: r.EVR()}
	for _, kind := range []struct {
		tag   string
		got   []string
		extra string
	}{
		{"REQUIRE", append(slices.Clone(r.Requires), r.RequiresPre...), ""}, {"PROVIDE", texts(r.Provides), self.String()},
		{"CONFLICT", r.Conflicts, ""}, {"OBSOLETE", texts(r.Obsoletes), ""}, {"RECOMMEND", r.Recommends, ""},
		{"SUGGEST", r.Suggests, ""}, {"SUPPLEMENT", r.Supplements, ""}, {"ENHANCE", r.Enhances, ""},
	} {
		want := []string{}
		for _, line := range strings.Split(query(t, path, "--qf", "[%{"+kind.tag+"NEVRS}\n]"), "\n") {
			if line != "" && line != "(none)" && !strings.HasPrefix(line, "rpmlib(") {
				want = append(want, strings.ReplaceAll(line, " 0:", " "))
			}
		}
		if kind.extra != "" {
			want = append(want, kind.extra)
		}
		slices.Sort(want)
		want = slices.Compact(want)
		got := slices.Clone(kind.got)
		slices.Sort(got)
		if !slices.Equal(got, want) && len(got)+len(want) > 0 {
			t.Errorf("%s: got %q, rpm says %q", kind.tag, got, want)
		}
	}
}

func compareScripts(t *testing.T, path string, r *repo.Record) {
	t.Helper()
	tags := map[repo.Phase]string{repo.Pre: "PREIN", repo.Post: "POSTIN", repo.PreUn: "PREUN", repo.PostUn: "POSTUN",
		repo.PreTrans: "PRETRANS", repo.PostTrans: "POSTTRANS", repo.Verify: "VERIFYSCRIPT"}
	for phase, tag := range tags {
		got := "(none)|(none)"
		for _, s := range r.Scriptlets {
			if s.Phase == phase {
				got = s.Script + "|" + strings.Join(s.Interpreter, " ")
				if s.Script == "" {
					got = "(none)" + got
				}
			}
		}
		want := query(t, path, "--qf", "%{"+tag+"}|[%{"+tag+"PROG} ]")
		want = strings.TrimSuffix(want, " ")
		if want == "(none)|" {
			want = "(none)|(none)"
		}
		if got != want {
			t.Errorf("%s: got %q, rpm says %q", phase, got, want)
		}
	}
	got := 0
	for _, trigger := range r.Triggers {
		got += len(trigger.On)
	}
	if want := strings.Count(query(t, path, "--qf", "[%{TRIGGERNAME}\n]"), "\n"); got != want {
		t.Errorf("%d trigger conditions, rpm says %d", got, want)
	}
	got = 0
	for _, trigger := range r.FileTriggers {
		got += len(trigger.Prefixes)
	}
	want := strings.Count(query(t, path, "--qf", "[%{FILETRIGGERNAME}\n]"), "\n") +
		strings.Count(query(t, path, "--qf", "[%{TRANSFILETRIGGERNAME}\n]"), "\n")
	if got != want {
		t.Errorf("%d file trigger prefixes, rpm says %d", got, want)
	}
}

// compareFiles compares with rpm's dump: path, size, mtime, digest, mode,
// owner, group, isconfig, isdoc, rdev, symlink.
func compareFiles(t *testing.T, path string, list *repo.FileList) {
	t.Helper()
	lines := map[string][]string{}
	for _, line := range strings.Split(query(t, path, "--dump"), "\n") {
		if fields := strings.Fields(line); len(fields) == 11 {
			lines[fields[0]] = fields
		}
	}
	if len(lines) != len(list.Files) {
		t.Errorf("%d files, rpm says %d", len(list.Files), len(lines))
	}
	for i := range list.Files {
		f := &list.Files[i]
		want, ok := lines[f.Path]
		if !ok {
			t.Errorf("rpm has no %s", f.Path)
			continue
		}
		mode, err := strconv.ParseUint(want[4], 8, 32)
		if err != nil {
			t.Fatal(err)
		}
		checks := [][2]string{
			{fmt.Sprint(f.ModTime), want[2]}, {fmt.Sprint(f.Mode), fmt.Sprint(mode & 0o7777)},
			{orRoot(f.User), want[5]}, {orRoot(f.Group), want[6]},
			{flag(f.Has(repo.Config)), want[7]}, {flag(f.Has(repo.Doc)), want[8]},
		}
		if f.Type == repo.Regular && !f.Has(repo.Ghost) {
			checks = append(checks, [2]string{fmt.Sprint(f.Size), want[1]})
			if len(want[3]) == 64 {
				checks = append(checks, [2]string{f.Digest.Hex(), want[3]})
			}
		}
		if f.Type == repo.Symlink {
			checks = append(checks, [2]string{f.Link, want[10]})
		}
		for _, c := range checks {
			if c[0] != c[1] {
				t.Errorf("%s: got %q, rpm says %q", f.Path, c[0], want)
			}
		}
	}
}

func orRoot(name string) string {
	if name == "" {
		return "root"
	}
	return name
}

func flag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}
