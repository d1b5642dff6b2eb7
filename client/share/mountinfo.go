package share

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mountEntry is one line of /proc/self/mountinfo (proc_pid_mountinfo(5)).
type mountEntry struct {
	id, parent int
	target     string // in the guest
	source     string
	dir        string // what is mounted, a path in its file system
	fstype     string
}

// mountTable is the mounts at and below the guest's root, by their numbers.
type mountTable map[int]mountEntry

func (r *Root) mountTable() (mountTable, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("cannot list the guest's mounts: %w", err)
	}
	table := mountTable{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		e, err := parseMount(lines.Text())
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		inside, ok := strings.CutPrefix(e.target, r.real)
		if !ok || inside != "" && inside[0] != '/' {
			continue
		}
		e.target = inside
		table[e.id] = e
	}
	if err := errors.Join(lines.Err(), f.Close()); err != nil {
		return nil, fmt.Errorf("cannot list the guest's mounts: %w", err)
	}
	return table, nil
}

func parseMount(line string) (mountEntry, error) {
	before, after, found := strings.Cut(line, " - ")
	left, right := strings.Fields(before), strings.Fields(after)
	bad := fmt.Errorf("cannot read a line of mountinfo: %q", line)
	if !found || len(left) < 6 || len(right) < 1 {
		return mountEntry{}, bad
	}
	id, errID := strconv.Atoi(left[0])
	parent, errParent := strconv.Atoi(left[1])
	if errID != nil || errParent != nil {
		return mountEntry{}, bad
	}
	e := mountEntry{id: id, parent: parent, target: unescapeMount(left[4]), dir: unescapeMount(left[3]), fstype: right[0]}
	if len(right) > 1 {
		e.source = unescapeMount(right[1])
	}
	return e, nil
}

// unescapeMount undoes what the kernel writes for blanks, newlines and
// backslashes: three octal digits.
func unescapeMount(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// isOurs reports whether it is an environment's mount.
func (e mountEntry) isOurs() bool {
	return e.fstype == "overlay" && strings.HasPrefix(e.source, sourcePrefix)
}

// isOf reports whether it is the mount of a package. The kernel shows where in
// its file system a mount begins, which with a layer ends with the package's ID
// and the path in it, wherever the nest has its store.
func (e mountEntry) isOf(p *Placed) bool {
	return slices.ContainsFunc(p.Mounts, func(m Mount) bool {
		return m.Target == e.target && strings.HasSuffix(e.dir, "/"+p.ID.Hex()+m.Source)
	})
}

// below returns the mount at the same place that lies directly below e.
func (t mountTable) below(e mountEntry) (mountEntry, bool) {
	under, ok := t[e.parent]
	return under, ok && under.target == e.target && under.id != e.id
}

// children lists the targets of the mounts directly on a mount, below dir.
func (t mountTable) children(id int, dir string) []string {
	var list []string
	for _, e := range t {
		if e.parent == id && strings.HasPrefix(e.target, dir+"/") {
			list = append(list, e.target)
		}
	}
	return list
}

// mountID returns the number of the mount that an open file is reached by.
func mountID(f *os.File) (int, error) {
	var st unix.Statx_t
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st); err != nil {
		return 0, fmt.Errorf("cannot find a mount: %w", err)
	}
	return int(st.Mnt_id), nil
}
