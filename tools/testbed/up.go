package testbed

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"stork/tools/testbed/box"
)

// Users of the machines' unprivileged programs: below the guests' range, and
// of nobody on the host.
const (
	repoUser      = box.GuestRoot - 2
	publisherUser = box.GuestRoot - 1
)

// Limits that keep addresses in their range.
const (
	maxNests  = 200
	maxGuests = 10000
)

// Up makes a testbed and returns when it is ready: the repository serves,
// every nest follows it, every guest has started. Its processes live on when
// the calling one ends; if that is killed before Up has returned, they end
// too. After an error nothing is left.
func Up(ctx context.Context, o Options) (_ *Testbed, err error) {
	t, rate, err := o.check()
	if err != nil {
		return nil, fmt.Errorf("cannot make testbed: %w", err)
	}
	lock, err := t.makeFolder()
	if err != nil {
		return nil, fmt.Errorf("cannot make testbed: %w", err)
	}
	hub, err := t.startHub(o, lock)
	if err != nil {
		return nil, fmt.Errorf("cannot make testbed: %w", errors.Join(err, t.abandon()))
	}
	defer func() { err = errors.Join(err, hub.Close()) }()
	if err := t.build(ctx, o, rate); err != nil {
		log := t.lastLog()
		return nil, fmt.Errorf("cannot make testbed: %w%s", errors.Join(err, t.abandon()), log)
	}
	return t, nil
}

// check completes the options.
func (o *Options) check() (t *Testbed, rate uint32, err error) {
	if rate, err = ParseRate(o.Rate); err != nil {
		return nil, 0, err
	}
	if o.Nests < 0 || o.Nests > maxNests || o.Guests < 0 || o.Guests > maxGuests {
		return nil, 0, fmt.Errorf("%d nests with %d guests each are out of range: at most %d and %d", o.Nests, o.Guests, maxNests, maxGuests)
	}
	if o.Rootfs != "" {
		if o.Rootfs, err = filepath.Abs(o.Rootfs); err != nil {
			return nil, 0, err
		}
		if info, err := os.Stat(o.Rootfs); err != nil || !info.IsDir() {
			return nil, 0, fmt.Errorf("the guests' root %s is no directory", o.Rootfs)
		}
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, 0, err
	}
	if o.Bin == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, 0, err
		}
		o.Bin = filepath.Dir(self)
	}
	if o.Transfer != "" && !json.Valid([]byte(o.Transfer)) {
		return nil, 0, fmt.Errorf("the transfer setting %q is no JSON", o.Transfer)
	}
	t = &Testbed{dir: dir, transfer: o.Transfer, state: state{Bin: o.Bin, HostUser: o.NoUserNS, Rootless: !privileged(), Guests: map[string]string{}}}
	for i := range o.Nests {
		nest := "n" + strconv.Itoa(i+1)
		t.state.Nests = append(t.state.Nests, nest)
		for j := range o.Guests {
			t.state.Guests[nest+"g"+strconv.Itoa(j+1)] = nest
		}
	}
	return t, rate, nil
}

// makeFolder makes the testbed's folder, and says in it what is about to be.
func (t *Testbed) makeFolder() (*os.File, error) {
	if err := os.MkdirAll(t.dir, 0o711); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(t.dir)
	if err != nil {
		return nil, err
	}
	if len(entries) > 0 {
		return nil, fmt.Errorf("%s is not empty: end the testbed there with 'stork-testbed down --dir %s', or choose another folder", t.dir, t.dir)
	}
	if err := os.Chmod(t.dir, 0o711); err != nil {
		return nil, err
	}
	lock, err := takeLock(t.path("lock"), false)
	if err != nil {
		return nil, fmt.Errorf("cannot lock %s: %w", t.dir, err)
	}
	if err := t.save(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	for _, d := range []struct {
		name string
		mode os.FileMode
	}{{"run", 0o700}, {"log", 0o700}, {"base", 0o711}, {"base/mask", 0o711}, {"guests", 0o711}, {"mail", 0o711}} {
		if err := os.Mkdir(t.path(d.name), d.mode); err != nil {
			return nil, errors.Join(err, lock.Close())
		}
	}
	return lock, nil
}

func (t *Testbed) startHub(o Options, lock *os.File) (*box.Hub, error) {
	defer lock.Close() // the hub has it
	log, err := os.OpenFile(t.path("log", "hub"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the same
	spec := box.Spec{
		Name: "hub", Rootfs: o.Rootfs, MaskDir: t.path("base", "mask"), BaseDir: t.path("base"),
		Hide: t.secrets(), Reach: []string{t.dir, t.state.Bin}, NoUserNS: o.NoUserNS, Rootless: t.state.Rootless,
	}
	if o.Rootfs != "" {
		spec.Reach = append(spec.Reach, o.Rootfs)
	}
	return box.Start(spec, box.Host{Socket: t.socket("hub"), Log: log, Lock: lock}, func(pid int) error {
		var err error
		if t.state.Hub, err = processOf(pid); err != nil {
			return err
		}
		return t.save()
	})
}

// secrets are paths that guests must not see beside those that are secret on
// every host: the testbed itself, by its own name and the one it really has.
func (t *Testbed) secrets() []string {
	hide := []string{t.dir}
	if resolved, err := filepath.EvalSymlinks(t.dir); err == nil && resolved != t.dir {
		hide = append(hide, resolved)
	}
	return hide
}

// build starts everything in the hub.
func (t *Testbed) build(ctx context.Context, o Options, rate uint32) error {
	for i, name := range append([]string{repoName, publisherName}, t.state.Nests...) {
		limit := rate
		if name == publisherName {
			limit = 0
		}
		if err := t.startMachine(ctx, name, i, limit); err != nil {
			return err
		}
	}
	if err := t.startRepository(ctx); err != nil {
		return err
	}
	if err := t.startPublisher(ctx); err != nil {
		return err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for _, nest := range t.state.Nests {
		group.Go(func() error { return t.startNest(groupCtx, nest) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	t.state.Ready = true
	if err := t.save(); err != nil {
		return err
	}
	_, err := t.ask(ctx, "hub", box.Request{Release: true})
	return err
}

// firstNest is the number of the first nest's machine, after those of the
// repository and the publisher.
const firstNest = 2

// addresses are those of machine number i, and of the hub on its link.
func addresses(i int) (machine, hub netip.Prefix) {
	at := func(host byte) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 77, byte(i), host}), 30)
	}
	return at(2), at(1)
}

// startMachine starts a machine and links it to the hub.
func (t *Testbed) startMachine(ctx context.Context, name string, i int, rate uint32) error {
	answer, err := t.ask(ctx, "hub", box.Request{Machine: &box.Machine{Name: name, Socket: t.socket(name)}})
	if err != nil {
		return err
	}
	machine, hub := addresses(i)
	link := &box.Link{Name: "veth" + strconv.Itoa(i), PID: answer.PID, Address: hub, Rate: rate}
	if _, err := t.ask(ctx, "hub", box.Request{Link: link}); err != nil {
		return err
	}
	_, err = t.ask(ctx, name, box.Request{Network: &box.Network{Address: machine, Gateway: hub.Addr(), Rate: rate}})
	return err
}

func (t *Testbed) ask(ctx context.Context, name string, r box.Request) (box.Answer, error) {
	answer, err := box.Client{Socket: t.socket(name)}.Do(ctx, r, nil, nil)
	if err != nil {
		return answer, fmt.Errorf("%s: %w", name, err)
	}
	return answer, nil
}

// tool runs one of Stork's programs in a machine and returns what it prints.
func (t *Testbed) tool(ctx context.Context, machine string, user int, dir string, args ...string) (string, error) {
	var out, errs bytes.Buffer
	e := t.toolExec(machine, user, dir, args)
	r, err := t.run(ctx, machine, e, Command{Args: e.Args, Stdout: &out, Stderr: &errs}, nil)
	if err != nil {
		return "", err
	}
	if r.Status != 0 {
		return "", fmt.Errorf("%s in %s failed with status %d: %s", strings.Join(args, " "), machine, r.Status, strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}

func (t *Testbed) toolExec(machine string, user int, dir string, args []string) *box.Exec {
	if t.state.Rootless {
		user = 0
	}
	return &box.Exec{
		Args: append([]string{t.program(args[0])}, args[1:]...), Dir: dir, UID: user, GID: user,
		Env: []string{"PATH=" + t.state.Bin + ":" + hostPath, "HOME=" + t.path(machine)},
	}
}

// daemon starts one of Stork's programs in a machine for as long as it lives.
func (t *Testbed) daemon(ctx context.Context, machine string, user int, dir string, args ...string) error {
	log, err := os.OpenFile(t.path("log", machine), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	e := t.toolExec(machine, user, dir, args)
	e.Detach = true
	_, err = t.run(ctx, machine, e, Command{Args: e.Args, Stdout: log, Stderr: log}, nil)
	return err
}

// abandon ends what a failed Up has started.
func (t *Testbed) abandon() error {
	if err := t.state.Hub.kill(context.Background()); err != nil {
		return err
	}
	return t.clear()
}

// lastLog returns the ends of the daemons' logs, for an error message.
func (t *Testbed) lastLog() string {
	var text strings.Builder
	entries, err := os.ReadDir(t.path("log"))
	if err != nil {
		return ""
	}
	for _, e := range entries {
		data, err := os.ReadFile(t.path("log", e.Name()))
		if err != nil || len(data) == 0 {
			continue
		}
		data = data[max(0, len(data)-2000):]
		fmt.Fprintf(&text, "\n%s:\n%s", e.Name(), strings.TrimSpace(string(data)))
	}
	return text.String()
}
