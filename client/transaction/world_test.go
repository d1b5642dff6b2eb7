package transaction

import (
	"bytes"
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
	"time"

	"golang.org/x/sys/unix"

	"stork/client/scriptlet/lua"
	"stork/client/share"
	"stork/nestd/api"
	"stork/repo"
	"stork/repo/durable"
)

// inNamespace is set in the process that runs the tests: one with a mount
// namespace of its own, so that no test can leave a mount behind.
const inNamespace = "STORK_TEST_NAMESPACE"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == lua.Command {
		os.Exit(lua.Main(os.Args[2:])) // as the program does
	}
	if os.Getenv(inNamespace) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	var exit *exec.ExitError
	err := cmd.Run()
	switch {
	case err == nil:
		return
	case errors.As(err, &exit):
		os.Exit(exit.ExitCode())
	case os.Getenv("CI") == "true":
		fmt.Fprintln(os.Stderr, "cannot make namespaces:", err)
		os.Exit(1)
	}
	fmt.Fprintln(os.Stderr, "skipped: cannot make namespaces:", err)
}

// world is a guest and a nest's view of layers. The guest's /usr is the
// host's, for scriptlets need a shell; packages of tests go to /opt, /etc and
// /var.
type world struct {
	t      *testing.T
	dir    string
	root   string
	views  map[repo.Digest]string
	refs   []repo.Digest            // what the nest was told last
	unseen []repo.Digest            // layers that were detached and kept
	sent   int                      // how often references were sent by themselves
	down   bool                     // the nest does not answer
	method share.Method             // of what is installed; empty: bind
	hidden map[repo.Digest][]string // private files of layers
	asks   int                      // how often environments may be asked for; 0: always
	trees  map[repo.Digest]bool     // environments that the guest refers to
	last   repo.Digest              // that was asked for last
	events []string
	output bytes.Buffer
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), views: map[repo.Digest]string{}, hidden: map[repo.Digest][]string{}, trees: map[repo.Digest]bool{}}
	w.must(unix.Mount("tmpfs", w.dir, "tmpfs", 0, "mode=755"))
	t.Cleanup(func() { unmountBelow(t, filepath.Dir(w.dir)) })
	w.root = filepath.Join(w.dir, "root")
	for _, dir := range []string{"usr", "etc", "var/tmp", "opt", "tmp", "dev"} {
		w.must(os.MkdirAll(filepath.Join(w.root, dir), 0o755))
	}
	w.must(unix.Mount("/usr", filepath.Join(w.root, "usr"), "", unix.MS_BIND|unix.MS_REC, ""))
	for _, link := range []string{"bin", "lib", "lib64", "sbin"} {
		w.must(os.Symlink("usr/"+link, filepath.Join(w.root, link)))
	}
	w.must(os.WriteFile(filepath.Join(w.root, "dev/null"), nil, 0o666))
	return w
}

func unmountBelow(t *testing.T, dir string) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Error(err)
	}
	var targets []string
	for line := range strings.Lines(string(b)) {
		if target := strings.Fields(line)[4]; strings.HasPrefix(target, dir+"/") {
			targets = append(targets, target)
		}
	}
	for _, target := range slices.Backward(targets) {
		if err := unix.Unmount(target, unix.MNT_DETACH); err != nil {
			t.Errorf("cannot unmount %s: %v", target, err)
		}
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// pkg makes a package whose scriptlets write their phase and arguments to
// /var/log.
func (w *world) pkg(name, version string, files map[string]string, scripts ...string) Package {
	w.t.Helper()
	r := &repo.Record{Format: 1, Name: repo.Name(name), Version: version, Release: "1", Arch: repo.NoArch,
		Blob:     repo.Blob{Digest: repo.DigestOf([]byte(name + version)), Format: repo.RPM, Size: 1},
		FileList: repo.FileListObject{Digest: repo.DigestOf([]byte("list")), Size: 1}}
	for _, s := range scripts {
		phase, body, _ := strings.Cut(s, ":")
		log := fmt.Sprintf("echo %s-%s %s $* >> /var/log\n", name, version, phase)
		r.Scriptlets = append(r.Scriptlets, repo.Scriptlet{Phase: repo.Phase(phase), Interpreter: []string{"/bin/sh"}, Script: log + body})
	}
	_, id, err := r.Encode()
	w.must(err)
	p := Package{Ref: api.PackageRef{ID: id, Name: r.Name, Publisher: "alice"}, Record: r, Reason: ByUser}
	view := filepath.Join(w.dir, "view", id.Hex())
	w.must(os.MkdirAll(view, 0o755))
	for path, content := range files {
		path, config := strings.CutSuffix(path, "!")
		at := filepath.Join(view, path)
		w.must(os.MkdirAll(filepath.Dir(at), 0o755))
		f := repo.File{Path: path, Type: repo.Regular, Mode: 0o644, Digest: repo.DigestOf([]byte(content)), Size: int64(len(content))}
		if config {
			f.Flags = []repo.FileFlag{repo.Config}
		}
		mode := fs.FileMode(0o644)
		if share.Private(&f) {
			p.Private = append(p.Private, f)
			w.hidden[id] = append(w.hidden[id], path)
			mode = 0o600
		}
		w.must(os.WriteFile(at, []byte(content), mode))
	}
	slices.SortFunc(p.Private, func(a, b repo.File) int { return strings.Compare(a.Path, b.Path) })
	w.must(unix.Mount(view, view, "", unix.MS_BIND, ""))
	w.must(unix.Mount("", view, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	w.views[id] = view
	return p
}

func (w *world) hooks() Hooks {
	return Hooks{
		Attach: func(_ context.Context, ids, installed []repo.Digest) (map[repo.Digest]string, error) {
			if w.down {
				return nil, errors.New("the nest is down")
			}
			if installed != nil {
				w.refs = slices.Concat(installed, ids)
			}
			found := map[repo.Digest]string{}
			for _, id := range ids {
				found[id] = w.views[id]
			}
			return found, nil
		},
		Detach: func(_ context.Context, ids []repo.Digest, keep bool) error {
			if keep {
				w.unseen = append(w.unseen, ids...)
			}
			return nil
		},
		References: func(_ context.Context, ids, environments []repo.Digest) error {
			if w.down {
				return errors.New("the nest is down")
			}
			w.refs = ids
			w.sent++
			if environments != nil {
				w.refer(environments)
			}
			return nil
		},
		Environment: w.environment,
		Progress: func(e Event) {
			if e.Step == StepScriptlet {
				w.events = append(w.events, e.Package+" "+string(e.Phase))
			}
		},
	}
}

func (w *world) tryOpen(fault durable.Fault) (*Guest, error) {
	return Open(context.Background(), Options{Root: w.root, Disk: durable.Disk{Fault: fault}, Hooks: w.hooks(),
		Output: &w.output, Now: func() time.Time { return time.Unix(1e9, 0) }})
}

func (w *world) open() *Guest {
	w.t.Helper()
	g, err := w.tryOpen(nil)
	w.must(err)
	return g
}

func (w *world) run(c Change) *Outcome {
	w.t.Helper()
	g := w.open()
	defer g.Close()
	out, err := g.Run(context.Background(), w.by(c))
	w.must(err)
	return out
}

// installed lists what the state says, after a check that the guest agrees
// and that nothing is left behind.
func (w *world) installed() []string {
	w.t.Helper()
	g := w.open()
	defer g.Close()
	problems, err := g.Verify(context.Background())
	w.must(err)
	for _, p := range problems {
		w.t.Errorf("%s is %s (%s)", p.Path, p.What, p.Detail)
	}
	for _, kept := range []*durable.Slots{&g.kept.journal, &g.kept.progress} {
		if _, err := kept.Read(); !errors.Is(err, fs.ErrNotExist) {
			w.t.Errorf("%s is left behind: %v", kept.Path, err)
		}
	}
	var names []string
	for i := range g.State().Packages {
		names = append(names, g.State().Packages[i].NEVRA().String())
	}
	return names
}

// tree describes all files of the guest outside of /usr and of Stork's state.
func (w *world) tree() map[string]string {
	w.t.Helper()
	seen := map[string]string{}
	w.must(filepath.WalkDir(w.root, func(p string, d fs.DirEntry, err error) error {
		name := strings.TrimPrefix(p, w.root)
		switch {
		case err != nil:
			return err
		case name == "/usr" || name == "/"+stateDir:
			return filepath.SkipDir
		case name == "/var/log" || name == "/var/lib":
			return nil
		case d.Type().IsRegular():
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			seen[name] = string(b)
		default:
			seen[name] = d.Type().String()
		}
		return nil
	}))
	return seen
}

func (w *world) log() []string {
	w.t.Helper()
	b, err := os.ReadFile(filepath.Join(w.root, "var/log"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	w.must(err)
	w.must(os.Remove(filepath.Join(w.root, "var/log")))
	return strings.Split(strings.TrimSpace(string(b)), "\n")
}

func (w *world) write(path, content string) {
	w.t.Helper()
	w.must(os.WriteFile(filepath.Join(w.root, path), []byte(content), 0o644))
}

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

func upgrade(from, to Package) Change {
	return Change{Install: []Package{to}, Replaces: map[repo.Digest][]repo.Digest{to.Ref.ID: {from.Ref.ID}}}
}
