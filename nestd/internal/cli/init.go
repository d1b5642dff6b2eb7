package cli

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"path/filepath"
	"strings"

	"stork/nestd/api"
	"stork/nestd/internal/fetch"
	"stork/nestd/internal/nest"
	"stork/nestd/internal/state"
	"stork/repo"
	"stork/repo/durable"
	"stork/repo/program"
)

type initCommand struct {
	Repo   string      `required:"" placeholder:"URL" help:"Address of the repository."`
	Root   repo.Digest `required:"" placeholder:"sha256:…" help:"Digest of the repository's first root: its identity."`
	RunDir string      `type:"path" placeholder:"DIR" help:"Directory for sockets and guests' directories; default: run below the nest's directory."`
	Proxy  string      `placeholder:"URL" help:"HTTP proxy of the fetcher; by default none, whatever the environment says."`
	User   string      `placeholder:"NAME" help:"User of fetcher and unpacker; default: stork if there is one, else nobody."`
	JSON   bool        `name:"json" help:"Print JSON."`
}

// initResult is what init prints.
type initResult struct {
	Directory string      `json:"directory"`
	Key       string      `json:"key"` // for stork-repo nest add
	Root      repo.Digest `json:"root"`
	URL       string      `json:"url"`
}

// Run makes the nest. Interrupted, it is simply run again: the config, which
// says that there is a nest, is written last.
func (c *initCommand) Run(ctx context.Context, streams program.Streams, home *home) error {
	pin, err := c.pin()
	if err != nil {
		return err
	}
	var disk durable.Disk
	if err := disk.MkdirAll(home.dir, 0o711); err != nil {
		return fmt.Errorf("cannot make nest: %w", err)
	}
	if err := c.checkRoot(ctx, home, pin); err != nil {
		return err
	}
	key, err := home.identity(disk)
	if err != nil {
		return err
	}
	if err := addRepository(ctx, home, pin); err != nil {
		return err
	}
	if err := c.configure(home, disk); err != nil {
		return err
	}
	result := initResult{
		Directory: home.dir, Key: nest.FormatKey(key.Public().(ed25519.PublicKey)), Root: pin.Root, URL: pin.URL,
	}
	if c.JSON {
		return streams.JSON(result)
	}
	fmt.Fprintf(streams.Out, "Made a nest in %s, which follows %s.\n", result.Directory, result.URL)
	fmt.Fprintf(streams.Out, "The repository's operator approves it with: stork-repo nest add %s\n", result.Key)
	return nil
}

func (c *initCommand) pin() (api.RepositoryPin, error) {
	u, err := url.Parse(c.Repo)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return api.RepositoryPin{}, &program.Error{
			Status: program.Usage, Err: fmt.Errorf("cannot use repository address %q", c.Repo), Hint: "Give an http or https address.",
		}
	}
	return api.RepositoryPin{Root: c.Root, URL: strings.TrimSuffix(c.Repo, "/")}, nil
}

// checkRoot asks the repository, through a fetcher, for the root that is
// pinned: a wrong address or digest is found now and not by a guest.
func (c *initCommand) checkRoot(ctx context.Context, home *home, pin api.RepositoryPin) error {
	u, err := childUser(c.User)
	if err != nil {
		return err
	}
	f, err := fetch.Start(ctx, fetch.Options{
		Args: []string{fetcherCommand}, UID: u.uid, GID: u.gid, Proxy: c.Proxy,
		Spool: home.path("spool"), SocketDir: home.path("fetcher"), Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		return err
	}
	path := repo.MetadataPath("root", 1)
	b, err := f.Get(ctx, pin.URL, path, repo.MaxRoot)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if got := repo.DigestOf(b); got != pin.Root {
		return &program.Error{
			Status: exitUntrusted, Err: fmt.Errorf("cannot pin repository %s: its first root is %s, not %s", pin.URL, got, pin.Root),
			Hint: "Ask the repository's operator for the right digest, by a way that you trust.",
		}
	}
	return nil
}

func addRepository(ctx context.Context, home *home, pin api.RepositoryPin) error {
	s, err := state.Open(ctx, state.Options{Path: home.path("state.db")})
	if err != nil {
		return err
	}
	return errors.Join(s.AddRepository(ctx, pin), s.Close())
}

// configure writes the config; what is not said stays as it was.
func (c *initCommand) configure(home *home, disk durable.Disk) error {
	conf, err := home.load()
	if err != nil {
		conf = &config{Format: configFormat, RunDir: home.path("run")}
	}
	if c.RunDir != "" {
		conf.RunDir = filepath.Clean(c.RunDir)
	}
	if c.Proxy != "" {
		conf.Proxy = c.Proxy
	}
	if c.User != "" {
		conf.User = c.User
	}
	return home.save(disk, conf)
}
