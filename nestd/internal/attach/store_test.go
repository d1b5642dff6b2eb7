package attach

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// testStore is a store's layers folder, out of reach of anyone but root.
type testStore struct {
	t   *testing.T
	dir string
}

func newStore(t *testing.T) *testStore {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "layers")
	must(t, os.Mkdir(dir, 0o700))
	return &testStore{t, dir}
}

// layer adds a layer with a few files and returns its name.
func (s *testStore) layer(seed string) string {
	s.t.Helper()
	sum := sha256.Sum256([]byte(seed))
	name := hex.EncodeToString(sum[:])
	dir := s.path(name)
	must(s.t, os.MkdirAll(filepath.Join(dir, "etc"), 0o755))
	must(s.t, os.WriteFile(filepath.Join(dir, "file"), []byte("content of "+seed), 0o644))
	must(s.t, os.WriteFile(filepath.Join(dir, "etc", "secret"), []byte("root only"), 0o600))
	must(s.t, os.Symlink("file", filepath.Join(dir, "link")))
	return name
}

func (s *testStore) path(layer string) string { return filepath.Join(s.dir, layer[:2], layer) }

// program copies a program of the host into a layer.
func (s *testStore) program(layer, name string, mode uint32) string {
	s.t.Helper()
	from, err := exec.LookPath(name)
	must(s.t, err)
	data, err := os.ReadFile(from)
	must(s.t, err)
	to := filepath.Join(s.path(layer), name)
	must(s.t, os.WriteFile(to, data, 0o755))
	must(s.t, unix.Chmod(to, mode))
	return to
}

// fingerprint covers everything that a guest could change, with ctime, which
// no system call can set back.
func (s *testStore) fingerprint() string {
	s.t.Helper()
	sum := sha256.New()
	must(s.t, filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		fmt.Fprintln(sum, path, st.Ino, st.Nlink, st.Mode, st.Uid, st.Gid, st.Size, st.Mtim, st.Ctim)
		if d.Type().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			sum.Write(data)
		}
		return nil
	}))
	return hex.EncodeToString(sum.Sum(nil))
}

func (s *testStore) open() *Attacher {
	s.t.Helper()
	a, err := Open(context.Background(), s.dir, []string{"/proc/self/exe", placerArgument}, slog.New(slog.DiscardHandler))
	must(s.t, err)
	s.t.Cleanup(func() { must(s.t, a.Close()) })
	return a
}

// mountsOf counts the mounts of a process below dir.
func mountsOf(t *testing.T, pid int, dir string) int {
	t.Helper()
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/mountinfo")
	must(t, err)
	defer f.Close()
	mounts, err := mountinfo.GetMountsFromReader(f, mountinfo.PrefixFilter(dir))
	must(t, err)
	return len(mounts)
}
