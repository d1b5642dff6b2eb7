package box

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// kept are the top-level folders of the host that guests see, as far as they
// are no secret. emptied are there, empty, with these modes; everything else
// is hidden.
var (
	kept    = []string{"bin", "etc", "lib", "lib32", "lib64", "libx32", "opt", "sbin", "usr", "var"}
	emptied = map[string]uint32{"boot": 0o755, "dev": 0o755, "home": 0o755, "media": 0o755, "mnt": 0o755, "proc": 0o755,
		"root": 0o700, "run": 0o755, "srv": 0o755, "sys": 0o755, "tmp": 0o1777, "var/tmp": 0o1777}
)

// ownState is what Stork itself may have on the host: a guest starts without.
var ownState = []string{"/etc/stork", "/var/lib/stork", "/var/lib/stork-repo", "/var/lib/nestd"}

// mask builds the overlay layer between the host's root and a guest's own
// files. In it are whiteouts for what guests must not see, and opaque
// directories for what they may only see empty (overlayfs documentation,
// "whiteouts and opaque directories"). Nothing in a guest can look behind a
// lower layer: there is no mount to take away.
type mask struct {
	dir      string // a tmpfs: a layer may not lie below another one, which the host's root is
	opaque   string // name of the attribute
	rootless bool
}

// makeMask builds the layer for guests whose lower layer is the host's root.
func makeMask(spec Spec) error {
	if err := unix.Mount("mask", spec.MaskDir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("cannot mount the mask: %w", err)
	}
	m := &mask{dir: spec.MaskDir, opaque: "trusted.overlay.opaque", rootless: spec.Rootless}
	if m.rootless {
		m.opaque = "user.overlay.opaque"
	}
	if err := m.build(spec.Hide); err != nil {
		return fmt.Errorf("cannot hide the host's secrets from guests: %w", err)
	}
	return nil
}

func (m *mask) build(hide []string) error {
	for name, mode := range emptied {
		if err := m.empty("/"+name, mode); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir("/")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if slices.Contains(kept, e.Name()) {
			if err := m.keep(e); err != nil {
				return err
			}
		} else if _, ok := emptied[e.Name()]; !ok {
			if err := m.whiteout("/" + e.Name()); err != nil {
				return err
			}
		}
	}
	if err := m.secrets("/etc"); err != nil {
		return err
	}
	if err := m.secrets("/var"); err != nil {
		return err
	}
	for _, path := range append(slices.Clone(hide), ownState...) {
		top, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
		if !slices.Contains(kept, top) {
			continue // not to be seen anyway
		}
		if err := m.whiteout(path); err != nil {
			return err
		}
	}
	return m.shadow()
}

// keep prepares a top-level folder. Without root it gets directories of our
// own for the host's, which nobody in the guest could write in: only the
// first levels, which is where packages put things.
func (m *mask) keep(e fs.DirEntry) error {
	path := "/" + e.Name()
	if !m.rootless {
		return nil
	}
	if e.Type()&fs.ModeSymlink != 0 {
		target, err := os.Readlink(path)
		if err != nil {
			return err
		}
		return os.Symlink(target, m.dir+path)
	}
	const levels = 4
	return filepath.WalkDir(path, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil // what we can not read, guests can not either
		}
		if strings.Count(path, "/") > levels {
			return fs.SkipDir
		}
		return m.parents(path + "/x")
	})
}

// secrets hides what is not for everybody below a folder.
func (m *mask) secrets(top string) error {
	return filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, done := emptied[path[1:]]; done {
			return fs.SkipDir
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		switch {
		case d.IsDir() && info.Mode()&0o005 != 0o005:
			if err := m.empty(path, uint32(info.Mode().Perm())); err != nil {
				return err
			}
			return fs.SkipDir
		case !d.IsDir() && d.Type()&fs.ModeSymlink == 0 && info.Mode()&0o004 == 0:
			return m.whiteout(path)
		}
		return nil
	})
}

// whiteout hides one path.
func (m *mask) whiteout(path string) error {
	if err := m.parents(path); err != nil {
		return err
	}
	err := unix.Mknod(m.dir+path, unix.S_IFCHR, 0)
	if errors.Is(err, unix.EEXIST) {
		if err := os.RemoveAll(m.dir + path); err != nil {
			return err
		}
		err = unix.Mknod(m.dir+path, unix.S_IFCHR, 0)
	}
	if err != nil {
		return &fs.PathError{Op: "mknod", Path: m.dir + path, Err: err}
	}
	return nil
}

// empty shows a directory as empty.
func (m *mask) empty(path string, mode uint32) error {
	if err := m.parents(path + "/x"); err != nil {
		return err
	}
	if err := unix.Chmod(m.dir+path, mode); err != nil {
		return &fs.PathError{Op: "chmod", Path: m.dir + path, Err: err}
	}
	if err := unix.Setxattr(m.dir+path, m.opaque, []byte("y"), 0); err != nil {
		return &fs.PathError{Op: "setxattr", Path: m.dir + path, Err: err}
	}
	return nil
}

// parents makes the directories above path, with owner and mode of the
// host's: the uppermost layer of a merged directory decides.
func (m *mask) parents(path string) error {
	parent := filepath.Dir(path)
	if parent == "/" {
		return nil
	}
	if _, err := os.Lstat(m.dir + parent); err == nil {
		return nil
	}
	if err := m.parents(parent); err != nil {
		return err
	}
	if err := os.Mkdir(m.dir+parent, 0o755); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Stat(parent, &st); err != nil {
		return nil // the host has no such directory; ours will do
	}
	if m.rootless {
		return unix.Chmod(m.dir+parent, st.Mode&0o7777|0o700)
	}
	if err := unix.Chown(m.dir+parent, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	return unix.Chmod(m.dir+parent, st.Mode&0o7777)
}

// shadow gives guests password files of their own, without passwords, for
// programs that add users want them.
func (m *mask) shadow() error {
	for name, form := range map[string]struct{ from, rest string }{
		"/etc/shadow":  {"/etc/passwd", ":*:19000:0:99999:7:::"},
		"/etc/gshadow": {"/etc/group", ":*::"},
	} {
		if _, err := os.Lstat(name); err != nil {
			continue
		}
		data, err := os.ReadFile(form.from)
		if err != nil {
			return err
		}
		var text strings.Builder
		for line := range strings.Lines(string(data)) {
			if user, _, found := strings.Cut(line, ":"); found {
				text.WriteString(user + form.rest + "\n")
			}
		}
		path := m.dir + name
		if err := os.RemoveAll(path); err != nil { // the whiteout
			return err
		}
		if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
			return err
		}
	}
	return nil
}
