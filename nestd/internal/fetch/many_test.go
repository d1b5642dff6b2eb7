package fetch

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"stork/repo"
)

// TestManySeeds has a nest seed 5 000 packages, of which nobody wants one:
// under 300 MB and 2 % of a core, while it announces 50 of them a second,
// which is six times as many as later.
func TestManySeeds(t *testing.T) {
	const packages, size = 5000, repo.MinSwarm + 1
	dir := t.TempDir()
	seeds := filepath.Join(dir, "seeds")
	must(t, os.Mkdir(seeds, 0o711))
	blob := content(size)
	for n := range packages {
		sum := sha256.Sum256([]byte(strconv.Itoa(n)))
		copy(blob, sum[:])
		hasher := repo.NewPieceHasher(size)
		_, _ = hasher.Write(blob) // never fails
		info := hasher.Info(repo.DigestOf(blob))
		must(t, os.WriteFile(filepath.Join(seeds, info.Blob.Hex()), blob, 0o444))
		text := info.Encode()
		must(t, os.WriteFile(filepath.Join(seeds, repo.DigestOf(text).Hex()), text, 0o444))
	}
	host := newSwarmHost(t, blob)
	f := swarmNestKeeping(t, dir, "127.78.5.1", host, 1<<30)
	defer func() { must(t, f.Close()) }()
	waitFor(t, "the child seeds", func() bool { return host.seeds() == 1 })
	time.Sleep(2 * time.Second)
	const watched = 10 * time.Second
	before, begin := cpuOf(t, f.PID()), time.Now()
	time.Sleep(watched)
	share := (cpuOf(t, f.PID()) - before).Seconds() / time.Since(begin).Seconds() * 100
	memory := residentOf(t, f.PID())
	t.Logf("%d packages: %d MB, %.1f %% of a core", packages, memory>>20, share)
	if memory > 300<<20 {
		t.Errorf("%d packages take %d MB of memory", packages, memory>>20)
	}
	if share > 10 { // machines differ, and announces are six times as many as later
		t.Errorf("%d packages that nobody wants take %.1f %% of a core", packages, share)
	}
}

// cpuOf returns the processor time that a process has used (proc(5)).
func cpuOf(t *testing.T, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	must(t, err)
	_, rest, _ := strings.Cut(string(b), ") ")
	fields := strings.Fields(rest)
	user, err := strconv.Atoi(fields[11])
	must(t, err)
	system, err := strconv.Atoi(fields[12])
	must(t, err)
	return time.Duration(user+system) * 10 * time.Millisecond
}

// residentOf returns the bytes of memory that a process has.
func residentOf(t *testing.T, pid int) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	must(t, err)
	pages, err := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
	must(t, err)
	return pages * int64(os.Getpagesize())
}
