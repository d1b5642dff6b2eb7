// Package pins keeps what a guest or a publisher trusts to begin with: the
// first roots of repositories and, in a guest, the owner's first key
// document. Everything else is verified from there.
//
// A guest copies its pins from the directory that the nest gave it, once, and
// never again: the nest can not replace them later. Start with [Adopt] in a
// guest and [Load] elsewhere.
package pins

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"

	"stork/nestd/api"
	"stork/repo"
	"stork/repo/durable"
)

// Format is the version of the pins file that this code writes and reads.
const Format = 1

const maxFile = 1 << 20

// ErrNone says that nothing is pinned yet.
var ErrNone = errors.New("no repository is pinned")

// Load reads a pins file. An absent one is [ErrNone].
func Load(path string) (*api.Pins, error) {
	b, err := readBounded(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNone
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read pins: %w", err)
	}
	p := new(api.Pins)
	if err := repo.DecodeStrict(b, p); err != nil {
		return nil, fmt.Errorf("cannot read pins %s: %w", path, err)
	}
	if err := check(p); err != nil {
		return nil, fmt.Errorf("cannot read pins %s: %w", path, err)
	}
	return p, nil
}

func readBounded(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return nil, fmt.Errorf("%s is no small regular file", path)
	}
	return os.ReadFile(path)
}

func check(p *api.Pins) error {
	if p.Format != Format {
		return fmt.Errorf("unknown format %d: this program reads %d", p.Format, Format)
	}
	for i, r := range p.Repositories {
		if r.Root.IsZero() {
			return errors.New("a repository has no root digest")
		}
		if u, err := url.Parse(r.URL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("%q is no http or https address", r.URL)
		}
		if slices.ContainsFunc(p.Repositories[:i], func(o api.RepositoryPin) bool { return o.Root == r.Root }) {
			return fmt.Errorf("repository %s is there twice", r.Root)
		}
	}
	return nil
}

// Save writes a pins file and the directory it lies in.
func Save(disk durable.Disk, path string, p *api.Pins) error {
	p.Format = Format
	if err := check(p); err != nil {
		return fmt.Errorf("cannot write pins: %w", err)
	}
	b, err := repo.EncodeCanonical(p)
	if err != nil {
		return err
	}
	if err := disk.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return disk.WriteFile(path, append(b, '\n'), 0o644)
}

// Adopt returns the pins at path. If there are none yet it copies those that
// the nest offers, and adopted is true: the caller shows them to the user.
func Adopt(disk durable.Disk, path, offered string) (p *api.Pins, adopted bool, err error) {
	p, err = Load(path)
	if !errors.Is(err, ErrNone) {
		return p, false, err
	}
	p, err = Load(offered)
	if err != nil {
		return nil, false, err
	}
	if p.Owner.IsZero() {
		return nil, false, fmt.Errorf("cannot adopt pins %s: no owner is named", offered)
	}
	return p, true, Save(disk, path, p)
}

// Add pins a repository. The same repository at another address replaces the
// address; that address with another root is refused.
func Add(p *api.Pins, pin api.RepositoryPin) error {
	for i := range p.Repositories {
		have := &p.Repositories[i]
		if have.URL == pin.URL && have.Root != pin.Root {
			return fmt.Errorf("cannot pin %s: it is pinned with root %s already", pin.URL, have.Root)
		}
		if have.Root == pin.Root {
			have.URL = pin.URL
			return nil
		}
	}
	p.Repositories = append(p.Repositories, pin)
	return nil
}

// Remove unpins the repository with that address or root digest.
func Remove(p *api.Pins, which string) error {
	n := len(p.Repositories)
	p.Repositories = slices.DeleteFunc(p.Repositories, func(r api.RepositoryPin) bool {
		return r.URL == which || r.Root.String() == which
	})
	if len(p.Repositories) == n {
		return fmt.Errorf("cannot remove repository %q: not pinned", which)
	}
	return nil
}
