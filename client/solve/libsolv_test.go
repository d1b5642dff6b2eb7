package solve

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// notFollowed lists the stages whose results we do not want, and why. One
// that begins to pass fails the test, so that the list stays true.
var notFollowed = map[string]string{
	"multiversion/multiversion.t#3": "without keepexplicitobsoletes a kernel-like package obsoletes nothing; rpm erases what it obsoletes all the same",
}

// notTranslated lists the stages with jobs that we have no form for, and why
// the rest of the case still says something.
var notTranslated = map[string]string{
	"multiversion/update2.t#1": "\"update oneof\" restricts what an update may choose; the install job beside it names the same package",
}

// testData returns a folder of the data beside the project, and skips the
// test where it is absent.
func testData(t *testing.T, name string) string {
	t.Helper()
	base := os.Getenv("STORK_TESTDATA")
	if base == "" {
		base = filepath.Join("..", "..", "..", "shared", "data")
	}
	dir := filepath.Join(base, name)
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("test data is not here: %v", err)
	}
	return dir
}

func TestLibsolvCases(t *testing.T) {
	t.Parallel()
	dir := testData(t, "libsolv")
	files, err := filepath.Glob(filepath.Join(dir, "*", "*.t"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases in %s: %v", dir, err)
	}
	for _, file := range files {
		stages, err := readTestcases(file)
		if err != nil {
			t.Fatal(err)
		}
		rel, _ := filepath.Rel(dir, file)
		for i, stage := range stages {
			name := fmt.Sprintf("%s#%d", rel, i+1)
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				if len(stage.unknown) > 0 && notTranslated[name] == "" {
					t.Fatalf("jobs without a translation: %q", stage.unknown)
				}
				diff := stage.check()
				reason, listed := notFollowed[name]
				switch {
				case listed && diff == "":
					t.Errorf("passes, but is listed as not followed: %s", reason)
				case listed:
					t.Skipf("not followed: %s", reason)
				case diff != "":
					t.Error(diff)
				}
			})
		}
	}
}

// check runs the case and says how the result differs from what is wanted.
func (s *testcase) check() string {
	got, err := Solve(context.Background(), s.request, newWorld(s.available...), nil)
	if len(s.problems) > 0 {
		u, ok := IsUnsolvable(err)
		if !ok {
			return fmt.Sprintf("got %v, want problems %q", err, s.problems)
		}
		if len(u.Problems) != len(s.problems) {
			return fmt.Sprintf("got problems %v, want %q", u, s.problems)
		}
		for _, want := range s.problems {
			if !strings.Contains(u.Error(), strings.TrimPrefix(want, "package ")) {
				return fmt.Sprintf("got %v, want %q", u, want)
			}
		}
		return ""
	}
	if err != nil {
		return err.Error()
	}
	want := slices.Clone(s.want)
	slices.Sort(want)
	return cmp.Diff(want, changes(got))
}
