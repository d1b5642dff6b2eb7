package publisher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"stork/client/cli/guest"
	"stork/repo"
	"stork/repo/program"
	"stork/signing/author"
)

type keyCmd struct {
	New  keyNewCmd  `cmd:"" help:"Make the keys of a publisher and owner."`
	Show keyShowCmd `cmd:"" help:"Show the pins of your keys."`
}

// keyInfo is what is public of a name's keys.
type keyInfo struct {
	Name      repo.Publisher `json:"name"`
	Publisher repo.Digest    `json:"publisher"` // the pin for trust policies
	Owner     repo.Digest    `json:"owner"`     // the pin for guests
	Version   int64          `json:"version"`   // of the publisher's newest key document
	Expires   time.Time      `json:"expires"`
	File      string         `json:"file,omitempty"`
}

type keyNewCmd struct {
	JSON bool           `name:"json" help:"Print JSON."`
	Out  string         `short:"o" placeholder:"FILE" help:"Where to write the key documents for the operator (default: NAME.keys here)."`
	Name repo.Publisher `arg:"" help:"Lower-case letters, digits and inner hyphens."`
}

// Run implements the command. Publisher and owner have keys of their own, so
// that a stolen build key can not rewrite policy.
func (c *keyNewCmd) Run(_ context.Context, env *guest.Environment, streams program.Streams) error {
	d, err := openDesk()
	if err != nil {
		return err
	}
	if err := d.disk.MkdirAll(d.keys(), 0o700); err != nil {
		return err
	}
	publisher, err := createOrOpen(d, c.Name.PublisherRole(), env.Now())
	if err != nil {
		return err
	}
	owner, err := createOrOpen(d, c.Name.OwnerRole(), env.Now())
	if err != nil {
		return err
	}
	bundle, err := author.EncodeBundle(publisher, owner)
	if err != nil {
		return err
	}
	out := c.Out
	if out == "" {
		out = string(c.Name) + ".keys"
	}
	if err := d.disk.WriteFile(out, bundle, 0o644); err != nil {
		return err
	}
	info := keyInfoOf(publisher, owner)
	info.File = out
	if c.JSON {
		return streams.JSON(info)
	}
	printKeys(streams, info)
	fmt.Fprintf(streams.Out, "\nGive %s to the repository's operator, for `stork-repo publisher add %s %s`.\nPrivate keys are in %s: back them up, and keep the master keys off this machine.\n", out, c.Name, out, d.keys())
	return nil
}

// createOrOpen makes the keys of a role. If an interrupted run made them
// already, they stand: keys are never made twice under one name.
func createOrOpen(d *desk, role repo.Role, now time.Time) (*author.Identity, error) {
	id, err := author.CreateIdentity(d.disk, d.keys(), role, now)
	if errors.Is(err, os.ErrExist) {
		return author.OpenIdentity(d.keys(), role)
	}
	return id, err
}

type keyShowCmd struct {
	JSON bool           `name:"json" help:"Print JSON."`
	Name repo.Publisher `arg:"" optional:"" help:"Only these; else all."`
}

// Run implements the command.
func (c *keyShowCmd) Run(_ context.Context, streams program.Streams) error {
	d, err := openDesk()
	if err != nil {
		return err
	}
	names := []repo.Publisher{c.Name}
	if c.Name == "" {
		if names, err = d.names(); err != nil {
			return err
		}
	}
	list := []keyInfo{}
	for _, name := range names {
		publisher, err := d.identity(name.PublisherRole())
		if err != nil {
			return err
		}
		owner, err := d.identity(name.OwnerRole())
		if err != nil {
			return err
		}
		list = append(list, keyInfoOf(publisher, owner))
	}
	if c.JSON {
		return streams.JSON(list)
	}
	for _, info := range list {
		printKeys(streams, info)
	}
	return nil
}

// names lists whose keys are here.
func (d *desk) names() ([]repo.Publisher, error) {
	entries, err := os.ReadDir(d.keys())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var names []repo.Publisher
	for _, e := range entries {
		if role, err := repo.ParseRole(e.Name()); err == nil && !role.IsOwner() {
			names = append(names, role.Publisher())
		}
	}
	return names, nil
}

func keyInfoOf(publisher, owner *author.Identity) keyInfo {
	newest := publisher.Newest()
	return keyInfo{
		Name: publisher.Role().Publisher(), Publisher: publisher.Pin().Digest, Owner: owner.Pin().Digest,
		Version: newest.Version, Expires: newest.Expires,
	}
}

func printKeys(out program.Streams, k keyInfo) {
	fmt.Fprintf(out.Out, "%s\n  publisher  %s   for `stork trust allow %s --key …`\n  owner      %s   for `nestd guest add … --owner …`\n  key document version %d, expires %s\n",
		k.Name, k.Publisher, k.Name, k.Owner, k.Version, k.Expires.Format(time.DateOnly))
}
