package transaction

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"stork/client/scriptlet"
	"stork/client/share"
	"stork/repo"
	"stork/repo/durable"
)

// Where a guest keeps its state, below its root.
const (
	stateDir     = "var/lib/stork"
	stateName    = "state.slots"
	journalName  = "journal.slots"
	progressName = "progress.slots"
	lockName     = "lock"
	scratchName  = "scriptlets"
)

// maxState is the size in bytes that a state or journal never exceeds.
const maxState = 512 << 20

// Guest is one guest's set of packages. It is used by one goroutine at a
// time.
type Guest struct {
	options Options
	log     *slog.Logger
	now     func() time.Time
	root    *share.Root
	dir     string // the state directory
	lock    *os.File
	state   *State
	kept    documents
	runner  *scriptlet.Runner
	told    []repo.Digest // what the nest was told last in this run, sorted; nil: nothing, or it is not known what it heard
	asked   bool          // for environments, in this run
	seen    []repo.Digest // layers that were attached in this run
	mounts  bool          // the guest may mount, or has it done
	unknown error         // why it is not known who mounts for the guest, which may not itself
	late    []string      // warnings of Open, for the first Outcome
}

// documents are what the state directory holds.
type documents struct {
	state, journal, progress durable.Slots
}

func (g *Guest) documents() documents {
	in := func(name string) durable.Slots {
		return durable.Slots{Disk: g.options.Disk, Path: g.path(name), Perm: 0o644, Max: maxState}
	}
	return documents{in(stateName), in(journalName), in(progressName)}
}

// BusyError says that another stork is changing the guest.
type BusyError struct {
	PID int // 0 if it is not known
}

// Error implements error.
func (e *BusyError) Error() string {
	if e.PID == 0 {
		return "another stork is running"
	}
	return fmt.Sprintf("another stork is running (pid %d)", e.PID)
}

// ErrChanging says that what was read of a guest is not how it is: a
// transaction is under way, was interrupted, or is done since.
var ErrChanging = errors.New("the guest is being changed, or a change was interrupted")

// Open opens a guest. Unless it is read-only it takes the guest's lock, with
// a [BusyError] at once if another has it, and finishes or undoes an
// interrupted transaction.
func Open(ctx context.Context, options Options) (*Guest, error) {
	if options.Root == "" {
		options.Root = "/"
	}
	g := &Guest{options: options, log: options.Log, now: options.Now, dir: filepath.Join(options.Root, stateDir)}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	if g.now == nil {
		g.now = time.Now
	}
	g.kept = g.documents()
	output := options.Output
	if output == nil {
		output = io.Discard
	}
	g.runner = &scriptlet.Runner{Root: options.Root, Scratch: filepath.Join(stateDir, scratchName), Output: output, Timeout: options.Timeout}
	if err := g.open(ctx); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

func (g *Guest) open(ctx context.Context) error {
	if !g.options.ReadOnly {
		if err := g.takeLock(); err != nil {
			return err
		}
	}
	var err error
	if g.root, err = share.OpenRoot(g.options.Root, g.options.Disk); err != nil {
		return err
	}
	if g.state, err = g.readState(); err != nil {
		return err
	}
	if g.options.ReadOnly {
		return nil
	}
	g.findMounter(ctx)
	unsettled := g.state.unsettled()
	if err := g.recover(ctx); err != nil || !unsettled {
		return err
	}
	g.settleLeft(ctx)
	return nil
}

// findMounter has a guest's mounts made by the nest, if it may not itself. While
// that is not known, for the nest does not answer, nobody changes mounts: what
// the nest has mounted the guest could not take away.
func (g *Guest) findMounter(ctx context.Context) {
	if g.mounts = share.MayMount(); g.mounts || g.options.Hooks.Mounter == nil {
		return
	}
	m, places, err := g.options.Hooks.Mounter(ctx)
	if err != nil {
		g.log.Warn("cannot ask who makes mounts", "err", err)
		g.unknown = fmt.Errorf("%w: %w", share.ErrNoMounter, err)
		g.root.MountBy(nobody{g.unknown}, true)
		return
	}
	if m != nil {
		g.root.MountBy(m, places)
		g.mounts = places
	}
}

// nobody is a [share.Mounter] of a guest of which it is not known who mounts.
type nobody struct{ why error }

// Change implements [share.Mounter].
func (n nobody) Change(context.Context, []share.MountChange) error {
	return n.why
}

// MayMount reports whether packages can be mounted in the guest, by itself or
// by the nest. Who only reads finds out when it is asked, for most that do have
// no need to, nor of a nest.
func (g *Guest) MayMount() bool {
	if g.options.ReadOnly && !g.mounts {
		g.findMounter(context.Background()) // the nest's client has time limits of its own
	}
	return g.mounts
}

// takeLock does not wait for another stork. The file says who has the lock.
func (g *Guest) takeLock() error {
	if err := g.options.Disk.MkdirAll(g.dir, 0o755); err != nil {
		return fmt.Errorf("cannot make %s: %w", g.dir, err)
	}
	path := filepath.Join(g.dir, lockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("cannot lock the guest: %w", err)
	}
	if err := durable.TryLock(f); err != nil {
		busy := &BusyError{PID: readPID(f)}
		f.Close() // read only so far
		if errors.Is(err, unix.EWOULDBLOCK) {
			return busy
		}
		return fmt.Errorf("cannot lock the guest: %w", err)
	}
	g.lock = f
	// Only a message for others: nothing is lost if it does not get there. It
	// is always as long, for making a file shorter takes the disk its time.
	if _, err := f.WriteAt(fmt.Appendf(nil, "%-10d\n", os.Getpid()), 0); err != nil {
		g.log.Debug("cannot write pid", "err", err)
	}
	return nil
}

func readPID(f *os.File) int {
	buf := make([]byte, 16)
	n, err := f.ReadAt(buf, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(buf[:n])))
	if err != nil {
		return 0
	}
	return pid
}

// Close gives the lock back.
func (g *Guest) Close() error {
	var failed error
	if g.root != nil {
		failed = g.root.Close()
	}
	if g.lock != nil {
		// A program that is just being started has a copy of the descriptor.
		failed = errors.Join(failed, unix.Flock(int(g.lock.Fd()), unix.LOCK_UN), g.lock.Close())
	}
	return failed
}

// State returns what is installed. The caller does not change it.
func (g *Guest) State() *State { return g.state }

// Mount brings back the mounts of all packages, and what they lie on, after
// the guest has restarted.
func (g *Guest) Mount(ctx context.Context) error {
	if g.state.Environment == nil {
		return g.restore(ctx, g.state)
	}
	s := g.state.clone()
	var err error
	if s.Environment, err = g.current(ctx); err != nil {
		return err
	}
	return g.restore(ctx, s)
}

// restore brings back what a state has mounted. Its environment is attached.
func (g *Guest) restore(ctx context.Context, s *State) error {
	if err := s.Environment.Restore(ctx, g.root); err != nil {
		return err
	}
	var ids []repo.Digest
	for i := range s.Packages {
		if s.Packages[i].Placed.NeedsView() {
			ids = append(ids, s.Packages[i].Ref.ID)
		}
	}
	views, err := g.attach(ctx, ids, nil)
	if err != nil {
		return err
	}
	return share.Restore(ctx, g.root, s.placed(), views)
}

// Verify compares the guest with what was installed: with ids, only those
// packages. Where the nest can not be asked, mounts are only checked for
// being there. Who only reads may do so beside a change, which what is found
// may be due to: then the error is [ErrChanging].
func (g *Guest) Verify(ctx context.Context, ids ...repo.Digest) ([]share.Problem, error) {
	problems, err := g.verify(ctx, ids)
	if g.lock != nil || err == nil && len(problems) == 0 {
		return problems, err
	}
	changing, changeErr := g.changing()
	if changing || changeErr != nil {
		return nil, errors.Join(changeErr, fmt.Errorf("cannot verify packages: %w", ErrChanging))
	}
	return problems, err
}

// changing reports whether the guest is not what was read of it any more: a
// transaction is under way, or was interrupted, or is done meanwhile.
func (g *Guest) changing() (bool, error) {
	if _, err := g.kept.journal.Read(); !errors.Is(err, fs.ErrNotExist) {
		return err == nil, err
	}
	now, err := g.readState()
	return err == nil && now.Serial != g.state.Serial, err
}

func (g *Guest) verify(ctx context.Context, ids []repo.Digest) ([]share.Problem, error) {
	var placed []share.Placed
	var mounted []repo.Digest
	for i := range g.state.Packages {
		p := &g.state.Packages[i]
		if len(ids) > 0 && !contains(ids, p.Ref.ID) {
			continue
		}
		placed = append(placed, p.Placed)
		if p.Placed.NeedsView() {
			mounted = append(mounted, p.Ref.ID)
		}
	}
	views, err := g.attach(ctx, mounted, nil)
	if err != nil {
		g.log.Warn("cannot attach layers", "err", err)
	}
	problems, err := share.Check(ctx, g.root, placed, views)
	if err != nil || g.state.Environment == nil {
		return problems, err
	}
	more, err := g.verifyEnvironment(ctx, ids)
	return append(problems, more...), err
}

// attach asks the nest for layers; without a nest none are known. For
// installed see [Hooks].
func (g *Guest) attach(ctx context.Context, ids, installed []repo.Digest) (map[repo.Digest]string, error) {
	if len(ids) == 0 || g.options.Hooks.Attach == nil {
		return map[repo.Digest]string{}, nil
	}
	g.seen = append(g.seen, ids...)
	views, err := g.options.Hooks.Attach(ctx, ids, installed)
	if err != nil {
		return nil, fmt.Errorf("cannot attach layers: %w", err)
	}
	return views, nil
}

func (g *Guest) path(name string) string { return filepath.Join(g.dir, name) }

// readState reads the state; a guest without one has no packages.
func (g *Guest) readState() (*State, error) {
	b, err := g.kept.state.Read()
	if errors.Is(err, fs.ErrNotExist) {
		return &State{Format: stateFormat, Packages: []Installed{}}, nil
	}
	if err == nil {
		var s *State
		if s, err = decodeState(b); err == nil {
			return s, nil
		}
	}
	return nil, fmt.Errorf("cannot read %s: %w", g.path(stateName), err)
}

func contains(ids []repo.Digest, id repo.Digest) bool {
	for _, have := range ids {
		if have == id {
			return true
		}
	}
	return false
}
