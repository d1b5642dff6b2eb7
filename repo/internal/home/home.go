package home

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"stork/repo"
	"stork/repo/durable"
	"stork/signing/author"
)

// ErrNone says that a directory is not a repository's.
var ErrNone = errors.New("there is no repository")

// Home is one repository's directory. It keeps nothing that another process
// may change, but for the settings, which only init writes.
type Home struct {
	Settings
	dir  string
	disk durable.Disk
	now  func() time.Time
}

// Open opens the repository in dir. The error wraps ErrNone if there is none.
// A nil now means time.Now.
func Open(dir string, disk durable.Disk, now func() time.Time) (*Home, error) {
	if now == nil {
		now = time.Now
	}
	h := &Home{dir: dir, disk: disk, now: now}
	if err := h.readSettings(); err != nil {
		return nil, fmt.Errorf("cannot open repository %s: %w", dir, err)
	}
	return h, nil
}

// Is reports whether dir looks like a repository's.
func Is(dir string) bool {
	info, err := os.Stat(filepath.Join(dir, settingsName))
	return err == nil && info.Mode().IsRegular()
}

// Owner returns the user ID that a repository's directory belongs to. Files
// that another user makes in it are out of the server's reach.
func Owner(dir string) (uid uint32, err error) {
	info, err := os.Stat(dir)
	if err != nil {
		return 0, fmt.Errorf("cannot open repository %s: %w", dir, err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, fmt.Errorf("cannot tell whose directory %s is", dir)
	}
	return stat.Uid, nil
}

// Dir returns the directory.
func (h *Home) Dir() string { return h.dir }

// Disk returns what writes to it.
func (h *Home) Disk() durable.Disk { return h.disk }

// Now returns the time.
func (h *Home) Now() time.Time { return h.now() }

// Tree returns the directory that readers see.
func (h *Home) Tree() string { return filepath.Join(h.dir, "tree") }

// TreePath returns where a path of repo/layout.go lies.
func (h *Home) TreePath(p string) string { return filepath.Join(h.Tree(), filepath.FromSlash(p)) }

// Uploads returns the directory of uploads that are not published yet.
func (h *Home) Uploads() string { return filepath.Join(h.dir, "uploads") }

func (h *Home) online() string { return filepath.Join(h.dir, "online") }

// Metadata opens what writes the repository's metadata. It reads the online
// keys, which another process may have replaced: open it for every
// transaction.
func (h *Home) Metadata() (*author.Repository, error) {
	r, err := author.OpenRepository(h.Tree(), h.online(), h.disk, h.now)
	if err != nil {
		return nil, err
	}
	if r.Root() != h.Root {
		return nil, fmt.Errorf("cannot open repository %s: its first root is %s, and %s says %s", h.dir, r.Root(), settingsName, h.Root)
	}
	return r, nil
}

// InitOptions say how a repository is made.
type InitOptions struct {
	Dir     string
	Offline string // directory for root and targets keys
	Disk    durable.Disk
	Now     func() time.Time // nil: time.Now

	// Zero means author's defaults.
	RootKeys, RootThreshold, TargetsKeys, TargetsThreshold int
}

// Init makes a repository in a directory that is empty or not there. The
// error wraps fs.ErrExist if it is not empty. A crash leaves a directory
// without settings, which is to be removed.
func Init(o InitOptions) (*Home, error) {
	if err := initDir(&o); err != nil {
		return nil, fmt.Errorf("cannot create repository %s: %w", o.Dir, err)
	}
	h := &Home{dir: o.Dir, disk: o.Disk, now: o.Now}
	if err := h.MakeTree(); err != nil {
		return nil, fmt.Errorf("cannot create repository %s: %w", o.Dir, err)
	}
	if err := o.Disk.MkdirAll(h.Uploads(), 0o700); err != nil {
		return nil, fmt.Errorf("cannot create repository %s: %w", o.Dir, err)
	}
	root, err := author.InitRepository(author.InitOptions{
		Tree: h.Tree(), OfflineDir: o.Offline, OnlineDir: h.online(), Disk: o.Disk, Now: o.Now,
		RootKeys: o.RootKeys, RootThreshold: o.RootThreshold,
		TargetsKeys: o.TargetsKeys, TargetsThreshold: o.TargetsThreshold,
	})
	if err != nil {
		return nil, err
	}
	h.Settings = Settings{Format: settingsFormat, OfflineKeys: o.Offline, Root: root}
	if err := h.writeSettings(); err != nil {
		return nil, fmt.Errorf("cannot create repository %s: %w", o.Dir, err)
	}
	return h, nil
}

// MakeTree makes the directories of the tree that are missing, as one is in a
// repository that is older than what it is for.
func (h *Home) MakeTree() error {
	for _, dir := range []string{"", "data", "blobs", "packs", "deltas", "frames"} {
		if err := h.disk.MkdirAll(h.TreePath(dir), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// initDir makes both paths absolute and refuses a directory that holds
// something, or offline keys in what the server can read.
func initDir(o *InitOptions) (err error) {
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return err
	}
	if o.Offline, err = filepath.Abs(o.Offline); err != nil {
		return err
	}
	if rel, err := filepath.Rel(o.Dir, o.Offline); err == nil && filepath.IsLocal(rel) {
		return fmt.Errorf("the offline keys may not lie in the repository, as %s does", o.Offline)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if err := emptyOrAbsent(o.Dir); err != nil {
		return err
	}
	return o.Disk.MkdirAll(o.Dir, 0o755)
}

func emptyOrAbsent(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && len(entries) > 0 {
		err = fmt.Errorf("%s is not empty: %w", dir, fs.ErrExist)
	}
	return err
}

// readBounded reads a small file of the directory.
func readBounded(path string, max int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > max {
		return nil, fmt.Errorf("%s is not a file of at most %d bytes", path, max)
	}
	return os.ReadFile(path)
}

// Settings are what a repository remembers of its making.
type Settings struct {
	Format      int         `json:"format"`
	OfflineKeys string      `json:"offline_keys"` // where root and targets keys were at init
	Root        repo.Digest `json:"root"`         // the first root: the repository's identity
}

const (
	settingsName   = "repository.json"
	settingsFormat = 1
	maxSettings    = 64 << 10
)

func (h *Home) readSettings() error {
	b, err := readBounded(filepath.Join(h.dir, settingsName), maxSettings)
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNone
	}
	if err != nil {
		return err
	}
	if err := repo.DecodeStrict(b, &h.Settings); err != nil {
		return fmt.Errorf("%s: %w", settingsName, err)
	}
	if h.Format != settingsFormat || h.Root.IsZero() {
		return fmt.Errorf("%s: unknown format %d, this program reads %d", settingsName, h.Format, settingsFormat)
	}
	return nil
}

func (h *Home) writeSettings() error {
	b, err := repo.EncodeCanonical(h.Settings)
	if err != nil {
		return err
	}
	return h.disk.WriteFile(filepath.Join(h.dir, settingsName), append(b, '\n'), 0o644)
}
