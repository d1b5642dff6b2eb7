package share

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// stack is one directory in all layers that have it, topmost first, merged as
// an overlay merges them (Documentation/filesystems/overlayfs.rst): what the
// trees of an environment show there, or the guest's own.
type stack struct {
	layers []stackLayer
}

type stackLayer struct {
	dir  *os.File
	head bool // one that only one of two environments has
}

// merged is what a stack has at a name.
type merged struct {
	info
	there  bool
	hidden bool     // a whiteout says that it is not there
	in     *os.File // the layer's directory that it is in
	name   string
	dirs   []stackLayer // if it is a directory: the parents of all that are merged
}

// openStack opens directories of which the first lies on top. Those that do
// not exist are left out.
func openStack(paths []string) (*stack, error) {
	s := &stack{}
	for _, p := range paths {
		fd, err := unix.Open(p, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			s.close()
			return nil, fmt.Errorf("cannot open the tree %s: %w", p, err)
		}
		s.layers = append(s.layers, stackLayer{dir: os.NewFile(uintptr(fd), p)})
	}
	return s, nil
}

func (s *stack) close() {
	if s == nil {
		return
	}
	for _, l := range s.layers {
		l.dir.Close() // opened for reading
	}
}

// look returns what the stack has at name. A nil stack has nothing.
func (s *stack) look(name string) (merged, error) {
	m := merged{name: name}
	if s == nil {
		return m, nil
	}
	for i, l := range s.layers {
		st, err := statAt(int(l.dir.Fd()), name)
		switch {
		case missing(err):
			continue
		case err != nil:
			return merged{}, fmt.Errorf("cannot look at %s in %s: %w", name, l.dir.Name(), err)
		case m.there && !st.isDir():
			return m, nil
		case st.isWhiteout():
			m.hidden = !m.there
			return m, nil
		case !m.there:
			m.there, m.info, m.in = true, st, l.dir
		}
		if !st.isDir() {
			return m, nil
		}
		m.dirs = append(m.dirs, l)
		if i < len(s.layers)-1 && isOpaque(l.dir, name) {
			return m, nil
		}
	}
	return m, nil
}

// isWhiteout reports whether it hides what lies below it.
func (i info) isWhiteout() bool {
	return i.kind() == unix.S_IFCHR && i.Rdev_major == 0 && i.Rdev_minor == 0
}

// isOpaque reports whether the directory hides those below it.
func isOpaque(dir *os.File, name string) bool {
	var value [1]byte
	for _, prefix := range []string{"trusted.", "user."} {
		n, err := unix.Lgetxattr(fdPath(int(dir.Fd()))+"/"+name, prefix+"overlay.opaque", value[:])
		if err == nil && n == 1 && value[0] == 'y' {
			return true
		}
	}
	return false
}

// enter opens the directory in all its layers.
func (m *merged) enter() (*stack, error) {
	s := &stack{}
	for _, l := range m.dirs {
		f, err := openBelow(l.dir, m.name, unix.O_RDONLY|unix.O_DIRECTORY, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
		if err != nil {
			s.close()
			return nil, fmt.Errorf("cannot open %s in %s: %w", m.name, l.dir.Name(), err)
		}
		s.layers = append(s.layers, stackLayer{f, l.head})
	}
	return s, nil
}

// find returns what the stack has at a path below it.
func (s *stack) find(p string) (merged, error) {
	at, opened := s, (*stack)(nil)
	defer func() { opened.close() }()
	parts := strings.Split(strings.TrimPrefix(p, "/"), "/")
	for i, name := range parts {
		m, err := at.look(name)
		if err != nil || i == len(parts)-1 || !m.there || !m.isDir() {
			m.there = m.there && i == len(parts)-1
			m.in = nil // it may be closed
			return m, err
		}
		next, err := m.enter()
		if err != nil {
			return merged{}, err
		}
		opened.close()
		at, opened = next, next
	}
	return merged{}, nil
}

// names lists what the layers have; with heads, only those that are heads.
func (s *stack) names(heads bool) (map[string]bool, error) {
	found := map[string]bool{}
	if s == nil {
		return found, nil
	}
	for _, l := range s.layers {
		if heads && !l.head {
			continue
		}
		_, err := l.dir.Seek(0, 0)
		var list []string
		if err == nil {
			list, err = l.dir.Readdirnames(-1)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot list %s: %w", l.dir.Name(), err)
		}
		for _, name := range list {
			found[name] = true
		}
	}
	return found, nil
}

func (s *stack) hasHead() bool {
	if s == nil {
		return false
	}
	for _, l := range s.layers {
		if l.head {
			return true
		}
	}
	return false
}

// sameMerged reports whether two environments have the same file at a path.
func sameMerged(a, b *merged) (bool, error) {
	if a.kind() != b.kind() {
		return false, nil
	}
	if a.same(b.info) || !a.isLink() {
		return a.same(b.info), nil
	}
	la, errA := readlinkAt(int(a.in.Fd()), a.name)
	lb, errB := readlinkAt(int(b.in.Fd()), b.name)
	return la == lb, errors.Join(errA, errB)
}

// open opens the file for reading.
func (m *merged) open() (*os.File, error) {
	return openBelow(m.in, m.name, unix.O_RDONLY|unix.O_NONBLOCK, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
}
