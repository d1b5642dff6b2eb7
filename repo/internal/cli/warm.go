package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"stork/repo"
	"stork/repo/api"
	"stork/repo/index"
	"stork/repo/internal/home"
	"stork/repo/program"
	"stork/signing"
)

type warmCmd struct {
	location
	Packages []string `arg:"" optional:"" name:"package" help:"A package: publisher/name, publisher/name=version or publisher/name=version-release. Without a version: the newest for each architecture. Without packages: show which are warmed."`
	Clear    bool     `help:"Forget the packages that were warmed so far; alone: warm none."`
	JSON     bool     `help:"Print JSON." name:"json"`
}

// Help is shown below the usage.
func (c *warmCmd) Help() string {
	return "Nests ask for the list when they look for news, and fetch what is on it in the background, as far as their own operators allow (warm_bytes in nest.json). What the packages require is not fetched with them."
}

// Run changes or shows the list.
func (c *warmCmd) Run(ctx context.Context, env *environment, streams program.Streams) error {
	h, err := c.open(env)
	if err != nil {
		return err
	}
	unlock, err := h.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	list, err := h.Warm()
	if err != nil {
		return err
	}
	if c.Clear {
		list = nil
	}
	for _, text := range c.Packages {
		found, err := publishedPackages(ctx, h, text)
		if err != nil {
			return err
		}
		for _, p := range found {
			if !slices.Contains(list, p) {
				list = append(list, p)
			}
		}
	}
	if c.Clear || len(c.Packages) > 0 {
		if err := h.SetWarm(list); err != nil {
			return err
		}
	}
	if c.JSON {
		return streams.JSON(api.WarmList{Packages: append([]api.WarmPackage{}, list...)})
	}
	rows := [][]string{}
	for _, p := range list {
		rows = append(rows, []string{string(p.Publisher), string(p.Name), p.ID.String()})
	}
	return streams.Table([]string{"PUBLISHER", "PACKAGE", "ID"}, rows)
}

// publishedPackages finds what a person names in the index that readers see:
// of each architecture the newest.
func publishedPackages(ctx context.Context, h *home.Home, text string) ([]api.WarmPackage, error) {
	spec, err := repo.ParsePackageSpec(text)
	if err == nil && spec.Publisher == "" {
		err = fmt.Errorf("cannot warm %q: say whose it is, as alice/%s", text, spec.Name)
	}
	if err != nil {
		return nil, &program.Error{Status: program.Usage, Err: err}
	}
	finder, err := publishedIndex(ctx, h, spec.Publisher)
	if err != nil {
		return nil, fmt.Errorf("cannot warm %q: %w", text, err)
	}
	entries, err := finder.Named(ctx, spec.Name)
	if err != nil {
		return nil, fmt.Errorf("cannot warm %q: %w", text, err)
	}
	newest := map[repo.Arch]*index.Entry{}
	for i := range entries {
		e := &entries[i]
		if spec.Fits(e.Name, e.EVR()) && (newest[e.Arch] == nil || newest[e.Arch].EVR().Compare(e.EVR()) < 0) {
			newest[e.Arch] = e
		}
	}
	if len(newest) == 0 {
		return nil, fmt.Errorf("cannot warm %q: %s has published no such package", text, spec.Publisher)
	}
	var found []api.WarmPackage
	for _, e := range newest {
		found = append(found, api.WarmPackage{ID: e.Record.Digest, Name: e.Name, Publisher: spec.Publisher})
	}
	slices.SortFunc(found, func(a, b api.WarmPackage) int { return slices.Compare(a.ID[:], b.ID[:]) })
	return found, nil
}

func publishedIndex(ctx context.Context, h *home.Home, publisher repo.Publisher) (*index.Finder, error) {
	metadata, err := h.Metadata()
	if err != nil {
		return nil, err
	}
	b, err := metadata.Published(publisher.PublisherRole())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s has published nothing", publisher)
	}
	if err != nil {
		return nil, err
	}
	role, err := signing.ParseRole(b)
	if err != nil {
		return nil, err
	}
	return index.Find(ctx, treeDocuments{h}, role.Targets[signing.IndexTarget(publisher)])
}

// treeDocuments are the index documents of the tree.
type treeDocuments struct{ *home.Home }

// Document implements index.Source.
func (t treeDocuments) Document(ctx context.Context, o repo.Object) ([]byte, error) {
	b, err := signing.Dir(t.Tree()).Fetch(ctx, repo.DataPath(o.Digest), o.Size)
	if err == nil && repo.ObjectOf(b) != o {
		err = fmt.Errorf("%s does not have its digest: run 'stork-repo check'", repo.DataPath(o.Digest))
	}
	return b, err
}
