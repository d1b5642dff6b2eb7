package nest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"

	"golang.org/x/sys/unix"

	"stork/nestd/api"
	"stork/nestd/internal/state"
)

var guestSyntax = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$`)

// maxSocketPath is what sockaddr_un holds (unix(7)), less the final NUL.
const maxSocketPath = 107

// CheckGuestName refuses names that could be anything but a directory's.
func CheckGuestName(name string) error {
	if !guestSyntax.MatchString(name) {
		return fmt.Errorf("cannot name a guest %.100q: want lower-case letters, digits and inner . _ -, at most 64: %w", name, errBadRequest)
	}
	return nil
}

// guestDir is what the runtime binds into the guest. Its inode stays the same
// as long as the guest is registered: another one would be dead in guests
// that run.
func (n *Nest) guestDir(name string) string { return filepath.Join(n.RunDir, "guests", name) }
func (n *Nest) viewDir(name string) string  { return filepath.Join(n.guestDir(name), api.ViewName) }

// SocketPath returns where a guest's socket is on the host.
func (n *Nest) SocketPath(name string) string {
	return filepath.Join(n.guestDir(name), api.SocketName)
}

// AddGuest registers a guest and makes its directory. Asked again for the
// same, it says the same, so a caller that lost the answer may repeat.
func (n *Nest) AddGuest(ctx context.Context, request api.GuestRequest) (*api.Guest, error) {
	n.guestMu.Lock()
	defer n.guestMu.Unlock()
	if err := CheckGuestName(request.Name); err != nil {
		return nil, err
	}
	if request.Owner.IsZero() {
		return nil, fmt.Errorf("cannot add guest %s: an owner is needed: %w", request.Name, errBadRequest)
	}
	if len(n.SocketPath(request.Name)) > maxSocketPath {
		return nil, fmt.Errorf("cannot add guest %s: the path of its socket is over %d bytes; use a shorter name or run directory: %w",
			request.Name, maxSocketPath, errBadRequest)
	}
	want := state.Guest{Name: request.Name, Owner: request.Owner, HostUserNS: request.HostUserNS}
	old, err := n.guest(ctx, request.Name)
	switch {
	case request.Placement != nil:
		want.Placement = *request.Placement
	case err == nil:
		want.Placement = old.Placement
	}
	switch {
	case errors.Is(err, errUnknown):
		// What another guest of that name may have left is not this one's.
		if err = n.dropOwnDir(request.Name); err == nil {
			err = n.State.AddGuest(ctx, want)
		}
	case err == nil && (old.Owner != want.Owner || old.HostUserNS != want.HostUserNS):
		err = fmt.Errorf("cannot add guest %s: it is registered with another owner or user namespace: %w", request.Name, state.ErrExists)
	case err == nil && want.Placement && old.RootUser != 0:
		err = fmt.Errorf("cannot add guest %s: it is a virtual machine, in which the nest can not place mounts: %w", request.Name, state.ErrExists)
	case err == nil && old.Placement != want.Placement:
		err = n.State.SetPlacement(ctx, request.Name, want.Placement)
	}
	if err != nil {
		return nil, err
	}
	// The row is committed first: start-up makes the directory of every row.
	if err := n.makeGuestDir(ctx, want); err != nil {
		return nil, err
	}
	return n.wireGuest(want), nil
}

// Machine notes that a guest is a virtual machine, and returns it with the
// first of the users of the host that serve it.
func (n *Nest) Machine(ctx context.Context, name string, request api.MachineRequest) (*api.Guest, error) {
	n.guestMu.Lock()
	defer n.guestMu.Unlock()
	g, err := n.guest(ctx, name)
	if err != nil {
		return nil, err
	}
	// The last user's number must be one (-1 is none).
	if request.RootUser > math.MaxUint32-state.MachineUsers {
		return nil, fmt.Errorf("cannot serve guest %s: there are no %d users from %d on: %w", name, state.MachineUsers, request.RootUser, errBadRequest)
	}
	if g.Placement {
		return nil, fmt.Errorf("cannot serve guest %s as a virtual machine: the nest is to place its mounts: %w", name, state.ErrExists)
	}
	if g.RootUser, err = n.State.SetRootUser(ctx, name, request.RootUser); err != nil {
		return nil, fmt.Errorf("cannot serve guest %s as a virtual machine: %w", name, err)
	}
	return n.wireGuest(*g), nil
}

// RemoveGuest removes a guest with its references, then its directories.
func (n *Nest) RemoveGuest(ctx context.Context, name string) error {
	n.guestMu.Lock()
	defer n.guestMu.Unlock()
	if _, err := n.guest(ctx, name); err != nil {
		return err
	}
	if err := n.State.RemoveGuest(ctx, name); err != nil {
		return err
	}
	n.trees.dropSoon()
	return errors.Join(n.removeGuestDir(name), n.dropOwnDir(name))
}

// Guests lists the guests by name.
func (n *Nest) Guests(ctx context.Context) ([]api.Guest, error) {
	rows, err := n.State.Guests(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]api.Guest, len(rows))
	for i, row := range rows {
		list[i] = *n.wireGuest(row)
	}
	return list, nil
}

func (n *Nest) wireGuest(g state.Guest) *api.Guest {
	return &api.Guest{
		Directory: n.guestDir(g.Name), HostUserNS: g.HostUserNS, Name: g.Name, Owner: g.Owner, Packages: g.Packages,
		Placement: g.Placement, RootUser: g.RootUser,
	}
}

// guest returns the row of a guest; errUnknown if there is none.
func (n *Nest) guest(ctx context.Context, name string) (*state.Guest, error) {
	g, err := n.State.Guest(ctx, name)
	if errors.Is(err, state.ErrNotFound) {
		return nil, fmt.Errorf("cannot find guest %.100q: %w", name, errUnknown)
	}
	return g, err
}

// recoverGuests makes the directory of every registered guest, and removes
// those of guests that are not: the same steps as adding and removing.
func (n *Nest) recoverGuests(ctx context.Context) error {
	if err := n.Disk.MkdirAll(filepath.Join(n.RunDir, "guests"), 0o700); err != nil {
		return err
	}
	rows, err := n.State.Guests(ctx)
	if err != nil {
		return err
	}
	registered := map[string]bool{}
	for _, g := range rows {
		registered[g.Name] = true
		if err := n.makeGuestDir(ctx, g); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(filepath.Join(n.RunDir, "guests"))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if registered[entry.Name()] {
			continue
		}
		if err := n.removeGuestDir(entry.Name()); err != nil {
			n.Log.Warn("cannot remove directory of a guest that is gone", "guest", entry.Name(), "err", err)
		}
	}
	return n.recoverOwnDirs(registered)
}

// makeGuestDir makes what is missing and renews what is old, inside of a
// directory that is never replaced.
func (n *Nest) makeGuestDir(ctx context.Context, g state.Guest) error {
	for _, dir := range []string{n.guestDir(g.Name), n.viewDir(g.Name)} {
		if err := n.Disk.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("cannot make directory of guest %s: %w", g.Name, err)
		}
	}
	repositories, err := n.State.Repositories(ctx)
	if err != nil {
		return err
	}
	pins := api.Pins{Format: 1, Owner: g.Owner, Repositories: []api.RepositoryPin{}}
	for _, r := range repositories {
		pins.Repositories = append(pins.Repositories, r.RepositoryPin)
	}
	b, err := json.MarshalIndent(pins, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot write pins of guest %s: %w", g.Name, err)
	}
	path := filepath.Join(n.guestDir(g.Name), api.PinsName)
	if old, err := os.ReadFile(path); err != nil || string(old) != string(b)+"\n" {
		if err := n.Disk.WriteFile(path, append(b, '\n'), 0o644); err != nil {
			return fmt.Errorf("cannot write pins of guest %s: %w", g.Name, err)
		}
	}
	if err := n.giveClients(ctx, g.Name); err != nil {
		return fmt.Errorf("cannot give guest %s its client: %w", g.Name, err)
	}
	return nil
}

// removeGuestDir removes what the nest put there and nothing below a mount:
// whatever still is mounted in the view keeps the directory.
func (n *Nest) removeGuestDir(name string) error {
	view, err := os.ReadDir(n.viewDir(name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	paths := []string{n.SocketPath(name)}
	for _, file := range []string{api.BinaryName, api.WholeName, api.PinsName} {
		paths = append(paths, filepath.Join(n.guestDir(name), file))
	}
	for _, entry := range view {
		paths = append(paths, filepath.Join(n.viewDir(name), entry.Name()))
	}
	for _, path := range append(paths, n.viewDir(name)) {
		if err := n.Disk.Remove(path); err != nil {
			if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENOTEMPTY) {
				return fmt.Errorf("cannot remove directory of guest %s: end the guest, then restart nestd: %w", name, errors.Join(errInUse, err))
			}
			return fmt.Errorf("cannot remove directory of guest %s: %w", name, err)
		}
	}
	if err := n.Disk.RemoveAll(n.guestDir(name)); err != nil {
		return fmt.Errorf("cannot remove directory of guest %s: %w", name, err)
	}
	return n.Disk.SyncDir(filepath.Dir(n.guestDir(name)))
}
