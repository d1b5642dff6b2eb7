package guest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"stork/client"
	"stork/client/catalog"
	"stork/client/change"
	"stork/client/inventory"
	"stork/client/pins"
	"stork/client/transaction"
	"stork/nestd/api"
	"stork/repo"
	"stork/repo/durable"
	"stork/repo/program"
)

// Where a guest keeps what Stork must remember, below its root.
const (
	pinsPath  = "etc/stork/pins.json"
	statePath = "var/lib/stork"
	trustName = "trust"
	cacheName = "cache"
)

// Host is where packages come from: the nest, or the repository itself.
type Host interface {
	catalog.Origin
	change.Nest
	Close() error
}

// session is what one command works with. Its parts are opened when they are
// needed, so that `stork list` asks no nest.
type session struct {
	g       *Place
	env     *Environment
	streams program.Streams
	disk    durable.Disk
	host    Host
	asking  time.Duration // how long questions have waited for their answers

	installs bool // the command may bring packages
}

// confirm asks. The time it takes is not the program's.
func (s *session) confirm(question string) (bool, error) {
	asked := s.env.Now()
	defer func() { s.asking += s.env.Now().Sub(asked) }()
	return s.streams.Confirm(question)
}

// since returns how long the program has worked.
func (s *session) since(started time.Time) time.Duration {
	return s.env.Now().Sub(started) - s.asking
}

func newSession(g *Place, env *Environment, streams program.Streams) *session {
	return &session{g: g, env: env, streams: streams}
}

func (s *session) path(elements ...string) string {
	return filepath.Join(append([]string{s.g.Sysroot}, elements...)...)
}

func (s *session) close() {
	if s.host != nil {
		if err := s.host.Close(); err != nil {
			fmt.Fprintln(s.streams.Err, "stork:", err)
		}
	}
}

// pins returns what this guest trusts to begin with; on first use it copies
// what the nest offers and says so.
func (s *session) pins() (*api.Pins, error) {
	offered := filepath.Join(s.g.Dir, api.PinsName)
	if os.Geteuid() != 0 {
		p, err := pins.Load(s.path(pinsPath))
		if errors.Is(err, pins.ErrNone) {
			return pins.Load(offered)
		}
		return p, err
	}
	p, adopted, err := pins.Adopt(s.disk, s.path(pinsPath), offered)
	if err != nil || !adopted {
		return p, err
	}
	fmt.Fprintf(s.streams.Err, "First use: this guest now trusts its owner %s\n", p.Owner)
	for _, r := range p.Repositories {
		fmt.Fprintf(s.streams.Err, "           and repository %s, root %s\n", r.URL, r.Root)
	}
	return p, nil
}

// origin opens the nest, or where this guest has none, the repository.
func (s *session) origin(p *api.Pins) (Host, error) {
	if s.host != nil {
		return s.host, nil
	}
	if s.hasNest() {
		return s.nest(), nil
	}
	alone, err := s.env.Alone(s.path(statePath, "direct"), p, s.disk)
	if err != nil {
		return nil, err
	}
	s.host = alone
	return s.host, nil
}

// hasNest reports whether the guest has the directory that a nest gives it.
func (s *session) hasNest() bool {
	_, err := os.Lstat(filepath.Join(s.g.Dir, api.SocketName))
	return err == nil
}

// catalog verifies what may be installed.
func (s *session) catalog(ctx context.Context) (*catalog.Catalog, error) {
	p, err := s.pins()
	if err != nil {
		return nil, err
	}
	origin, err := s.origin(p)
	if err != nil {
		return nil, err
	}
	books, err := catalog.Open(ctx, catalog.Options{
		Pins: p, Origin: origin, Verify: s.env.Verify, TrustDir: s.trustDir(), Disk: s.disk, Now: s.env.Now,
	})
	if err != nil {
		return nil, err
	}
	for _, broken := range books.Broken() {
		fmt.Fprintln(s.streams.Err, "stork: doing without a repository:", program.Text(broken.Err.Error()))
	}
	return books, nil
}

// trustDir is where versions and times seen are remembered: in the guest's
// state, or, for users who only look, in a place of their own.
func (s *session) trustDir() string {
	if os.Geteuid() == 0 {
		return s.path(statePath, trustName)
	}
	if dir, err := os.UserCacheDir(); err == nil {
		return filepath.Join(dir, "stork", trustName)
	}
	return s.path(statePath, trustName)
}

// guest opens the guest's state. A writer recovers what an interrupted
// command left, so it needs the nest if there is one.
func (s *session) guest(ctx context.Context, readOnly bool, progress func(transaction.Event)) (*transaction.Guest, error) {
	options := transaction.Options{Root: s.g.Sysroot, ReadOnly: readOnly, Disk: s.disk, Now: s.env.Now, Output: s.streams.Err}
	if s.hasNest() {
		nest := s.nest()
		options.Hooks = transaction.Hooks{Attach: nest.Attach, Detach: nest.Detach, References: nest.References, Environment: nest.Environment,
			Mounter: nest.Mounter}
	}
	options.Hooks.Progress = progress
	return transaction.Open(ctx, options)
}

// nest is the host's nest. It connects when it is first asked something, so
// that what needs no nest works while it is down.
func (s *session) nest() *nestHost {
	if h, ok := s.host.(*nestHost); ok {
		return h
	}
	h := &nestHost{
		nest:     client.Dial(s.g.Dir, func(what string) { fmt.Fprintln(s.streams.Err, "stork:", what) }),
		installs: s.installs, ready: map[repo.Digest]*api.Prepared{},
	}
	if s.host == nil {
		s.host = h
	}
	return h
}

// system is what the guest has besides Stork's packages.
func (s *session) system(state *transaction.State) *inventory.Inventory {
	i := inventory.Open(s.g.Sysroot, s.path(statePath, cacheName), s.disk)
	i.Placed = state.Owns
	i.Managed = func(nevra string) bool {
		return slices.ContainsFunc(state.Packages, func(p transaction.Installed) bool { return p.NEVRA().String() == nevra })
	}
	return i
}
