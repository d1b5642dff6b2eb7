package guest

import (
	"context"
	"errors"
	"fmt"

	"stork/client/pins"
	"stork/nestd/api"
	"stork/repo"
	"stork/repo/program"
)

type pinCmd struct {
	Root  repo.Digest `required:"" placeholder:"sha256:…" help:"SHA-256 of the repository's first root, as its operator publishes it."`
	Owner repo.Digest `placeholder:"sha256:…" help:"SHA-256 of the owner's first key document; needed the first time."`
	URL   string      `arg:"" name:"url" help:"The repository's address."`
}

// Run implements the command. An owner that is pinned is never replaced: that
// is for a person who removes the file.
func (c *pinCmd) Run(_ context.Context, g *Place, env *Environment, streams program.Streams) error {
	s := newSession(g, env, streams)
	p, err := pins.Load(s.path(pinsPath))
	if errors.Is(err, pins.ErrNone) {
		p, err = new(api.Pins), nil
	}
	if err != nil {
		return err
	}
	switch {
	case p.Owner.IsZero() && c.Owner.IsZero():
		return &program.Error{Status: program.Usage, Err: errors.New("no owner is pinned yet"), Hint: "Give --owner sha256:…, which the owner's `stork key show` prints."}
	case p.Owner.IsZero():
		p.Owner = c.Owner
	case !c.Owner.IsZero() && c.Owner != p.Owner:
		return &program.Error{Status: exitUntrusted, Err: fmt.Errorf("this guest belongs to owner %s", p.Owner), Hint: "To give it to another owner, remove " + s.path(pinsPath) + " first."}
	}
	if err := pins.Add(p, api.RepositoryPin{Root: c.Root, URL: c.URL}); err != nil {
		return err
	}
	return pins.Save(s.disk, s.path(pinsPath), p)
}
