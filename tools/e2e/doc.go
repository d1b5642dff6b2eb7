// Package e2e holds the end-to-end tests: the real programs, run as users run
// them, over the namespaces and mounts of a testbed.
//
// The scripts in testdata/script are txtar archives, one subject each; the
// commands that they use beside testscript's own are in the table of
// [TestScripts]. The README's first run is a test of its own.
//
// The programs come from $STORK_BIN, which `make test` sets, else from bin/
// beside go.mod, else they are built once for the run.
package e2e
