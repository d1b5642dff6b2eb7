package e2e

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// build makes packages as NAME-VERSION-RELEASE.ARCH.rpm in the script's
// folder.
func build(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg)
	usage(ts, len(args) > 0, "build SPEC [MACRO=VALUE…]")
	work := ts.MkAbs(".")
	flags := []string{
		"-bb", "--quiet", "--define", "_topdir " + filepath.Join(work, ".rpmbuild"), "--define", "_rpmdir " + work,
		"--define", "_rpmfilename %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm", "--define", "_build_id_links none",
	}
	for _, macro := range args[1:] {
		name, value, ok := strings.Cut(macro, "=")
		usage(ts, ok, "build SPEC [MACRO=VALUE…]")
		flags = append(flags, "--define", name+" "+value)
	}
	ts.Check(ts.Exec("rpmbuild", append(flags, ts.MkAbs(args[0]))...))
}

func real(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg)
	for _, pattern := range args {
		paths, err := bedOf(ts).match(pattern)
		ts.Check(err)
		if len(paths) == 0 {
			ts.Fatalf("no package %s here", pattern)
		}
		for _, path := range paths {
			data, err := os.ReadFile(path)
			ts.Check(err)
			ts.Check(os.WriteFile(ts.MkAbs(filepath.Base(path)), data, 0o600))
		}
	}
}
