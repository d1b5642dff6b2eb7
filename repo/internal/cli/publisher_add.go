package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"

	"stork/repo"
	"stork/repo/program"
	"stork/signing/author"
)

type publisherAddCmd struct {
	location
	offline
	DryRun bool   `help:"Only say what would be done." short:"n"`
	Name   string `arg:"" help:"The publisher's name."`
	File   string `arg:"" help:"The key file that the publisher made with stork key new."`
}

// Run delegates to the publisher's roles. The file decides whom the
// repository will trust, so its digests are shown: compare them with what the
// publisher says.
func (c *publisherAddCmd) Run(ctx context.Context, env *environment, streams program.Streams) error {
	name, err := repo.ParsePublisher(c.Name)
	if err != nil {
		return err
	}
	bundle, err := readBundle(c.File)
	if err != nil {
		return err
	}
	if bundle.Publisher() != name {
		return fmt.Errorf("cannot add %s: %s holds the keys of %s", name, c.File, bundle.Publisher())
	}
	h, err := c.open(env)
	if err != nil {
		return err
	}
	keys, err := c.dir(h)
	if err != nil {
		return err
	}
	if !c.DryRun {
		unlock, err := h.Lock(ctx)
		if err != nil {
			return err
		}
		defer unlock()
		metadata, err := h.Metadata()
		if err != nil {
			return err
		}
		if err := metadata.AddIdentity(keys, bundle); err != nil {
			return err
		}
	}
	verb := "Added"
	if c.DryRun {
		verb = "Would add"
	}
	for _, role := range sortedRoles(bundle) {
		documents := bundle.Documents[role]
		fmt.Fprintf(streams.Out, "%s %s %s, key document %d, pinned as %s\n",
			verb, kindOf(role), name, len(documents), repo.DigestOf(documents[0]))
	}
	return nil
}

func sortedRoles(b author.Bundle) []repo.Role {
	var roles []repo.Role
	for role := range b.Documents {
		roles = append(roles, role)
	}
	slices.Sort(roles)
	slices.Reverse(roles) // p- before o-
	return roles
}

func kindOf(role repo.Role) string {
	if role.IsOwner() {
		return "owner"
	}
	return "publisher"
}

func readBundle(path string) (author.Bundle, error) {
	f, err := os.Open(path)
	if err != nil {
		return author.Bundle{}, fmt.Errorf("cannot read key file: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, author.MaxBundle+1))
	if err != nil {
		return author.Bundle{}, fmt.Errorf("cannot read key file: %w", err)
	}
	bundle, err := author.DecodeBundle(b)
	if err != nil {
		return author.Bundle{}, fmt.Errorf("cannot read key file %s: %w", path, err)
	}
	return bundle, nil
}
