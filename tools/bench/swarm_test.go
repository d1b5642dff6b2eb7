package bench

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestSwarm measures two nests over slow links, by HTTP alone: the figures
// must be such as the links allow, and nothing may be left.
func TestSwarm(t *testing.T) {
	t.Parallel()
	bin := os.Getenv("STORK_BIN")
	if bin == "" || os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root and STORK_BIN, and in CI both are there")
		}
		t.Skip("needs root, and STORK_BIN, the folder with Stork's programs")
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "stork-bench"), "swarm", "--nests", "2", "--size", "1MB", "--rate", "20mbit", "--transfer", "{}", "--json")
	scratch := t.TempDir()
	cmd.Env = append(os.Environ(), "TMPDIR="+scratch)
	if err := os.Chmod(filepath.Dir(scratch), 0o711); err != nil { // the testbed's machines have users of their own
		t.Fatal(err)
	}
	if err := os.Chmod(scratch, 0o711); err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, errs.String())
	}
	var s Swarm
	if err := json.Unmarshal(out, &s); err != nil {
		t.Fatal(err)
	}
	copies := float64(s.HTTPRepoBytes) / float64(s.SizeBytes)
	if s.SizeBytes < 1e6 || s.LinkBytes != 2.5e6 || copies < 2 || copies > 3 {
		t.Errorf("%.2f copies left the repository: %s", copies, out)
	}
	// What a token bucket lets through at once is not held back: 256 KiB.
	if least := (2*float64(s.SizeBytes) - 256<<10) / float64(s.LinkBytes); s.HTTPSeconds < least {
		t.Errorf("two copies took %.2f s, the link takes %.2f s", s.HTTPSeconds, least)
	}
	if !strings.Contains(errs.String(), "Kernel:") {
		t.Error("the machine is not printed")
	}
	left, err := os.ReadDir(scratch)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
