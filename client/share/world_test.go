package share

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"stork/nestd/attachtest"
	"stork/repo"
	"stork/repo/durable"
)

// inNamespace is set in the process that runs the tests: one with a mount
// namespace of its own, so that no test can leave a mount behind.
const inNamespace = "STORK_TEST_NAMESPACE"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == placerArgument {
		os.Exit(attachtest.Placer())
	}
	if os.Getenv(inNamespace) != "" {
		os.Exit(m.Run())
	}
	if err := serveNest(); err != nil {
		fmt.Fprintln(os.Stderr, "cannot serve guests that may not mount:", err)
		os.Exit(1)
	}
	flags := uintptr(0)
	if os.Geteuid() != 0 {
		flags = syscall.CLONE_NEWUSER
	}
	status := rerun(flags, os.Args[1:]...)
	if socket := os.Getenv(nestSocket); socket != "" {
		if err := os.RemoveAll(filepath.Dir(socket)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			status = 1
		}
	}
	os.Exit(status)
}

// rerun runs this test binary in new namespaces and returns its status.
func rerun(flags uintptr, args ...string) int {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Unshareflags: syscall.CLONE_NEWNS}
	if flags&syscall.CLONE_NEWUSER != 0 {
		size := 1
		if os.Geteuid() == 0 {
			size = 65536
		}
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: size}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: size}}
		cmd.SysProcAttr.GidMappingsEnableSetgroups = os.Geteuid() == 0
	}
	var exit *exec.ExitError
	err := cmd.Run()
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	case os.Getenv("CI") == "true":
		fmt.Fprintln(os.Stderr, "cannot make namespaces:", err)
		return 1
	}
	fmt.Fprintln(os.Stderr, "skipped: cannot make namespaces:", err)
	return 0
}

// world is a guest's root and the layers that can be placed in it.
type world struct {
	t       testing.TB
	dir     string
	root    string
	view    string // where layers are
	upper   string // what the nest provides, in a nested guest
	views   map[repo.Digest]string
	objects int
	layers  int
	placed  []Placed
	all     map[repo.Digest]Layer
	env     Environment         // what is mounted
	merges  map[string]treeFile // what env shows
	whole   map[repo.Digest]*Environment
	names   map[repo.Digest]string

	nestView string // of the nest that makes mounts; empty: the guest makes them
	asked    int    // how often it was
}

// methods are all share methods that work here.
func methods() []Method { return []Method{Bind, byNest, Overlay, nested, Symlink, Copy} }

// nested is Overlay in a guest whose root is an overlay itself.
const nested Method = "nested"

// nest makes the guest's root an overlay.
func (w *world) nest() {
	w.t.Helper()
	base := filepath.Join(w.dir, "base")
	w.must(os.Rename(w.root, base))
	var dirs []*os.File
	for _, dir := range []string{base, filepath.Join(w.dir, "root-upper"), filepath.Join(w.dir, "root-work")} {
		w.must(os.MkdirAll(dir, 0o755))
		f, err := os.Open(dir)
		w.must(err)
		defer f.Close()
		dirs = append(dirs, f)
	}
	mount, err := mountOverlay("root", dirs[1], dirs[2], dirs[:1], dirs[0])
	w.must(err)
	defer mount.Close()
	w.must(os.Mkdir(w.root, 0o755))
	w.must(unix.MoveMount(int(mount.Fd()), "", unix.AT_FDCWD, w.root, unix.MOVE_MOUNT_F_EMPTY_PATH))
	w.upper = filepath.Join(w.dir, "guest-upper")
	w.must(os.Mkdir(w.upper, 0o755))
}

// newGuest is a world for one method.
func newGuest(t testing.TB, m Method) *world {
	t.Helper()
	fs := "tmpfs"
	if m == byNest {
		fs = "disk" // which the nest sees too
	}
	w := newWorldOn(t, fs)
	if m == nested {
		w.nest()
	}
	if m == byNest {
		w.placeByNest()
	}
	if m == Symlink || m == byNest {
		w.view = filepath.Join(w.root, inside, "view")
	}
	for _, dir := range []string{inside, kept} {
		w.must(os.MkdirAll(filepath.Join(w.root, dir), 0o755))
	}
	return w
}

// mounts lists the mounts in the guest but for its view.
func (w *world) mounts() []string {
	w.t.Helper()
	return slices.DeleteFunc(mountsBelow(w.t, w.root), func(m string) bool {
		return strings.HasPrefix(m, filepath.Join(w.root, inside)+"/")
	})
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return newWorldOn(t, "tmpfs")
}

// newWorldOn is a world in memory, since nothing here is about to lose power,
// or on the disk that temporary files are on.
func newWorldOn(t testing.TB, fs string) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), views: map[repo.Digest]string{}, names: map[repo.Digest]string{}, all: map[repo.Digest]Layer{}}
	t.Cleanup(func() { unmountBelow(t, filepath.Dir(w.dir)) })
	if fs == "tmpfs" {
		w.must(unix.Mount("tmpfs", w.dir, "tmpfs", 0, "mode=755"))
	}
	w.root, w.view = filepath.Join(w.dir, "root"), filepath.Join(w.dir, "view")
	for _, dir := range []string{"usr/bin", "usr/lib", "etc", "var/lib", "opt", "tmp"} {
		w.must(os.MkdirAll(filepath.Join(w.root, dir), 0o755))
	}
	w.must(os.MkdirAll(filepath.Join(w.dir, "objects"), 0o755))
	w.must(os.Symlink("usr/bin", filepath.Join(w.root, "bin")))
	w.write("etc/passwd", "root:x:0:0::/:\ndaemon:x:1:1::/:\n")
	w.write("etc/group", "root:x:0:\ntty:x:5:\n")
	return w
}

// unmountBelow takes away every mount below dir, the last one first.
func unmountBelow(t testing.TB, dir string) {
	for _, target := range slices.Backward(mountsBelow(t, dir)) {
		if err := unix.Unmount(target, unix.MNT_DETACH); err != nil {
			t.Errorf("cannot unmount %s: %v", target, err)
		}
	}
}

func mountsBelow(t testing.TB, dir string) []string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var targets []string
	for line := range strings.Lines(string(b)) {
		if target := strings.Fields(line)[4]; strings.HasPrefix(target, dir+"/") {
			targets = append(targets, target)
		}
	}
	return targets
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) write(path, content string) {
	w.t.Helper()
	w.must(os.MkdirAll(filepath.Dir(filepath.Join(w.root, path)), 0o755))
	w.must(os.WriteFile(filepath.Join(w.root, path), []byte(content), 0o644))
}

func (w *world) read(path string) string {
	w.t.Helper()
	b, err := os.ReadFile(filepath.Join(w.root, path))
	w.must(err)
	return string(b)
}

// file describes a file of a test package in few words.
func file(path, content string, flags ...repo.FileFlag) repo.File {
	return repo.File{Path: path, Type: repo.Regular, Mode: 0o644, Digest: repo.DigestOf([]byte(content)),
		Size: int64(len(content)), Flags: flags, ModTime: 1e9, User: "", Link: content}
}

func directory(path string) repo.File {
	return repo.File{Path: path, Type: repo.Dir, Mode: 0o755}
}

func symlink(path, target string) repo.File {
	return repo.File{Path: path, Type: repo.Symlink, Mode: 0o777, Link: target}
}

func with(f repo.File, change func(*repo.File)) repo.File {
	change(&f)
	return f
}

// layer builds a layer as a nest does: regular files are links to objects of
// the same content and mode, private ones are there too, fifos are not. Link
// of a regular file is its content here.
func (w *world) layer(name string, files ...repo.File) Layer {
	w.t.Helper()
	w.layers++
	l := Layer{ID: repo.DigestOf(fmt.Append(nil, name, w.layers)), Name: name}
	l.View = filepath.Join(w.view, l.ID.Hex()[:2], l.ID.Hex()) // as in a store
	w.must(os.MkdirAll(l.View, 0o755))
	for _, f := range files {
		at := filepath.Join(l.View, f.Path)
		w.must(os.MkdirAll(filepath.Dir(at), 0o755))
		switch {
		case f.Has(repo.Ghost):
		case f.Type == repo.Dir:
			w.must(os.MkdirAll(at, 0o755))
			w.must(os.Chmod(at, fs.FileMode(f.Mode&0o777)))
		case f.Type == repo.Symlink:
			w.must(os.Symlink(f.Link, at))
		case f.Type == repo.Regular:
			w.must(os.Link(w.object(f), at))
		}
		if Private(&f) {
			if f.Type == repo.Regular {
				f.Link = ""
			}
			l.Private = append(l.Private, f)
		}
	}
	slices.SortFunc(l.Private, func(a, b repo.File) int { return strings.Compare(a.Path, b.Path) })
	w.attach(l)
	w.all[l.ID] = l
	return l
}

func (w *world) attach(l Layer) {
	w.t.Helper()
	w.must(unix.Mount(l.View, l.View, "", unix.MS_BIND, ""))
	w.must(unix.Mount("", l.View, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	w.views[l.ID], w.names[l.ID] = l.View, l.Name
}

func (w *world) object(f repo.File) string {
	mode := fs.FileMode(f.Mode & 0o777)
	if f.Mode&unix.S_ISUID != 0 {
		mode |= fs.ModeSetuid
	}
	if Private(&f) {
		mode = 0o600
	}
	at := filepath.Join(w.dir, "objects", fmt.Sprintf("%s-%o", f.Digest.Hex(), mode))
	if _, err := os.Stat(at); err == nil {
		return at
	}
	w.must(os.WriteFile(at, []byte(f.Link), 0o600))
	w.must(os.Chmod(at, mode))
	return at
}

func (w *world) open(fault durable.Fault) *Root {
	w.t.Helper()
	root, err := OpenRoot(w.root, durable.Disk{Fault: fault})
	w.must(err)
	if w.nestView != "" {
		root.MountBy(nestMounter{w}, true)
	}
	w.t.Cleanup(func() { root.Close() })
	return root
}

func (w *world) plan(method Method, add []Layer, remove ...Layer) (*Plan, error) {
	method = method.real()
	c := Change{Method: method, Tag: "7", Add: add, Names: w.names}
	for _, l := range remove {
		c.Remove = append(c.Remove, l.ID)
	}
	if m := method; m == Overlay {
		return w.planOverlay(c)
	}
	return MakePlan(context.Background(), w.open(nil), w.placed, c)
}

// change plans, applies and commits.
func (w *world) change(method Method, add []Layer, remove ...Layer) []string {
	w.t.Helper()
	plan, err := w.plan(method, add, remove...)
	w.must(err)
	warnings := w.apply(plan, nil)
	w.commit(plan)
	return warnings
}

func (w *world) apply(plan *Plan, fault durable.Fault) []string {
	w.t.Helper()
	warnings, err := w.tryApply(plan, fault)
	w.must(err)
	return warnings
}

func (w *world) tryApply(plan *Plan, fault durable.Fault) (all []string, err error) {
	root := w.open(fault)
	w.confined(func() {
		for i := range plan.Elements {
			var warnings []string
			if warnings, err = plan.Apply(context.Background(), root, i, w.views); err != nil {
				return
			}
			all = append(all, warnings...)
		}
	})
	return all, err
}

func (w *world) commit(plan *Plan) {
	w.t.Helper()
	w.confined(func() { w.must(plan.Finish(w.open(nil))) })
	for _, e := range plan.Elements {
		if e.Environment != nil {
			w.env = *e.Environment
		}
		gone := func(p Placed) bool { return p.ID == e.ID }
		if e.Remove && slices.ContainsFunc(plan.Elements, func(o Element) bool { return !o.Remove && o.ID == e.ID }) {
			continue // it is placed again
		}
		w.placed = slices.DeleteFunc(w.placed, gone)
		if e.Remove {
			continue
		}
		for _, s := range e.Shifts {
			for i := range w.placed {
				if w.placed[i].ID == s.ID {
					w.placed[i] = s.Apply(w.placed[i])
				}
			}
		}
		w.placed = append(w.placed, e.Placed)
	}
}

// problems checks the guest and returns "what path" for each difference.
func (w *world) problems() []string {
	w.t.Helper()
	found, err := Check(context.Background(), w.open(nil), w.placed, w.views)
	w.must(err)
	var list []string
	for _, p := range found {
		list = append(list, string(p.What)+" "+p.Path)
	}
	return list
}

// snapshot describes every path of the guest as a program there sees it:
// type, mode, owner, content, and which paths are one inode.
func (w *world) snapshot() map[string]string {
	w.t.Helper()
	tree, inodes := map[string]string{}, map[string]string{}
	w.see("", w.root, tree, inodes)
	return tree
}

// inside are the guest's directories that are no part of what it sees: the
// view, and what stork keeps for itself.
const (
	inside = "/run/stork"
	kept   = "/var/lib/stork"
)

// see describes what is at a path of the guest. Symlinks into the view are
// followed.
func (w *world) see(name, at string, tree, inodes map[string]string) {
	w.t.Helper()
	if name == inside || name == kept {
		return
	}
	link, err := os.Readlink(at)
	if err == nil && strings.HasPrefix(link, inside+"/") {
		at = filepath.Join(w.root, link)
		link, err = os.Readlink(at)
	}
	var st unix.Stat_t
	w.must(unix.Lstat(at, &st))
	line := fmt.Sprintf("%o %d:%d", st.Mode, st.Uid, st.Gid)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		w.must(err)
		line = "-> " + link
	case unix.S_IFDIR:
		list, err := os.ReadDir(at)
		w.must(err)
		for _, d := range list {
			w.see(name+"/"+d.Name(), filepath.Join(at, d.Name()), tree, inodes)
		}
	case unix.S_IFREG:
		b, err := os.ReadFile(at)
		w.must(err)
		line += " " + string(b)
		inode := fmt.Sprintf("%d:%d", st.Dev, st.Ino)
		if first := inodes[inode]; first != "" {
			line += " = " + first
		} else {
			inodes[inode] = name
		}
	}
	tree[name] = line
}

// difference says in which paths two snapshots differ.
func difference(got, want map[string]string) string {
	paths := maps.Clone(got)
	maps.Copy(paths, want)
	var lines []string
	for _, p := range slices.Sorted(maps.Keys(paths)) {
		if got[p] != want[p] {
			lines = append(lines, fmt.Sprintf("%s: got %q, want %q", p, got[p], want[p]))
		}
	}
	return strings.Join(lines, "\n")
}

// failing makes the k-th step fail, before or after it is done.
func failing(k int, after bool, count *int) durable.Fault {
	return func(durable.Step, string) (error, error) {
		*count++
		if *count != k {
			return nil, nil
		}
		if after {
			return nil, errInjected
		}
		return errInjected, nil
	}
}

var errInjected = errors.New("injected")
