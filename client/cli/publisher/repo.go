package publisher

import (
	"context"

	"stork/client/cli/guest"
	"stork/client/pins"
	"stork/nestd/api"
	"stork/repo"
	"stork/repo/program"
)

type repoCmd struct {
	Add    repoAddCmd    `cmd:"" help:"Pin a repository to publish to."`
	List   repoListCmd   `cmd:"" help:"List the pinned repositories."`
	Remove repoRemoveCmd `cmd:"" help:"Forget a repository."`
}

// openRepositories returns the desk and the repositories that are pinned there.
func openRepositories() (*desk, *api.Pins, error) {
	d, err := openDesk()
	if err != nil {
		return nil, nil, err
	}
	p, err := d.repositories()
	return d, p, err
}

type repoAddCmd struct {
	Root repo.Digest `required:"" placeholder:"sha256:…" help:"SHA-256 of the repository's first root, as its operator publishes it."`
	URL  string      `arg:"" name:"url" help:"The repository's address."`
}

// Run implements the command.
func (c *repoAddCmd) Run(context.Context) error {
	d, p, err := openRepositories()
	if err != nil {
		return err
	}
	if err := pins.Add(p, api.RepositoryPin{Root: c.Root, URL: c.URL}); err != nil {
		return err
	}
	return pins.Save(d.disk, d.pinsFile(), p)
}

type repoListCmd struct {
	JSON bool `name:"json" help:"Print JSON."`
}

// Run implements the command.
func (c *repoListCmd) Run(_ context.Context, streams program.Streams) error {
	_, p, err := openRepositories()
	if err != nil {
		return err
	}
	if c.JSON {
		return streams.JSON(p.Repositories)
	}
	var rows [][]string
	for _, r := range p.Repositories {
		rows = append(rows, []string{r.URL, r.Root.String()})
	}
	return streams.Table([]string{"address", "root"}, rows)
}

type repoRemoveCmd struct {
	Which string `arg:"" name:"url" help:"Its address or root digest."`
}

// Run implements the command.
func (c *repoRemoveCmd) Run(context.Context) error {
	d, p, err := openRepositories()
	if err != nil {
		return err
	}
	if err := pins.Remove(p, c.Which); err != nil {
		return &program.Error{Status: guest.ExitNotFound, Err: err}
	}
	return pins.Save(d.disk, d.pinsFile(), p)
}
