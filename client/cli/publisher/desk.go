package publisher

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"stork/client/cli/guest"
	"stork/client/pins"
	"stork/nestd/api"
	"stork/repo"
	"stork/repo/durable"
	"stork/repo/program"
	"stork/signing/author"
)

// desk is where a publisher works: keys, pinned repositories and what was
// last signed, in the publisher's own configuration directory.
type desk struct {
	dir  string
	disk durable.Disk
}

// openDesk finds the directory: STORK_CONFIG, else stork below the user's
// configuration directory.
func openDesk() (*desk, error) {
	dir := os.Getenv("STORK_CONFIG")
	if dir == "" {
		base, err := os.UserConfigDir()
		if err != nil {
			return nil, &program.Error{Status: program.Failed, Err: fmt.Errorf("cannot find your configuration directory: %w", err), Hint: "Set HOME or STORK_CONFIG."}
		}
		dir = filepath.Join(base, "stork")
	}
	return &desk{dir: dir}, nil
}

func (d *desk) keys() string      { return filepath.Join(d.dir, "keys") }
func (d *desk) published() string { return filepath.Join(d.dir, "published") }
func (d *desk) pinsFile() string  { return filepath.Join(d.dir, "repositories.json") }

// repositories returns the pinned repositories, none if there are none.
func (d *desk) repositories() (*api.Pins, error) {
	p, err := pins.Load(d.pinsFile())
	if errors.Is(err, pins.ErrNone) {
		return new(api.Pins), nil
	}
	return p, err
}

// repository returns the one to publish to: the only one, or the one that the
// user named by address or root.
func (d *desk) repository(which string) (api.RepositoryPin, error) {
	p, err := d.repositories()
	if err != nil {
		return api.RepositoryPin{}, err
	}
	for _, r := range p.Repositories {
		if r.URL == which || r.Root.String() == which || which == "" && len(p.Repositories) == 1 {
			return r, nil
		}
	}
	switch {
	case which != "":
		err = fmt.Errorf("repository %q is not among yours", which)
	case len(p.Repositories) == 0:
		err = errors.New("you have no repository yet")
	default:
		return api.RepositoryPin{}, &program.Error{Status: program.Usage, Err: errors.New("you have several repositories"), Hint: "Name one with --repo URL; `stork repo list` shows them."}
	}
	return api.RepositoryPin{}, &program.Error{Status: guest.ExitNotFound, Err: err, Hint: "Add it with `stork repo add URL --root sha256:…`."}
}

// identity opens the keys of a role.
func (d *desk) identity(role repo.Role) (*author.Identity, error) {
	id, err := author.OpenIdentity(d.keys(), role)
	if errors.Is(err, os.ErrNotExist) {
		return nil, &program.Error{Status: guest.ExitNotFound, Err: fmt.Errorf("there are no keys of %s here", role), Hint: "Make them with `stork key new " + string(role.Publisher()) + "`."}
	}
	return id, err
}
