package direct

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"stork/client/catalog"
	"stork/nestd/api"
	"stork/nestd/store"
	"stork/repo"
	"stork/repo/durable"
	"stork/repo/index"
)

// Options say where the guest keeps what it fetched, and from where.
type Options struct {
	Dir  string // below the guest's state; may be removed at any time
	Pins *api.Pins
	Disk durable.Disk
	Exe  string // the stork binary, which the sandbox runs; empty: this process's
}

// Origin serves one guest from its pinned repositories. It is for one
// goroutine.
type Origin struct {
	o       Options
	web     *web
	entries map[repo.Digest][]index.Entry // by index root: read when first asked
	store   *store.Store                  // opened when something is prepared
}

// Open makes the directories and connects to nobody yet.
func Open(o Options) (*Origin, error) {
	if o.Exe == "" {
		exe, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("cannot find this program: %w", err)
		}
		o.Exe = exe
	}
	for _, name := range []string{dataName, spoolName} {
		if err := o.Disk.MkdirAll(filepath.Join(o.Dir, name), 0o700); err != nil {
			return nil, fmt.Errorf("cannot make %s: %w", o.Dir, err)
		}
	}
	if err := dropOld(o.Disk, filepath.Join(o.Dir, dataName), time.Now().Add(-keep)); err != nil {
		return nil, err
	}
	return &Origin{o: o, web: newWeb(usual()), entries: map[repo.Digest][]index.Entry{}}, nil
}

// keep is for how long a document is kept. Most are replaced by other ones of
// other digests, and nothing else says which are of use still.
const keep = 30 * 24 * time.Hour

// dropOld removes documents that were fetched before some time; those still
// needed are fetched again.
func dropOld(disk durable.Disk, dir string, before time.Time) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("cannot list kept documents: %w", err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.ModTime().Before(before) {
			continue
		}
		if err == nil {
			err = disk.Remove(filepath.Join(dir, e.Name()))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot drop an old document: %w", err)
		}
	}
	return nil
}

const (
	dataName  = "data"  // documents by digest
	spoolName = "spool" // blobs on their way
)

// Close gives the store's lock back and drops idle connections.
func (o *Origin) Close() error {
	o.web.client.CloseIdleConnections()
	if o.store == nil {
		return nil
	}
	return o.store.Close()
}

// Files implements [catalog.Origin].
func (o *Origin) Files(root repo.Digest) catalog.Files { return &files{o, o.pin(root)} }

func (o *Origin) pin(root repo.Digest) api.RepositoryPin {
	for _, p := range o.o.Pins.Repositories {
		if p.Root == root {
			return p
		}
	}
	return api.RepositoryPin{Root: root}
}

// files is one repository's static tree.
type files struct {
	origin *Origin
	pin    api.RepositoryPin
}

// Fetch implements signing.Source.
func (f *files) Fetch(ctx context.Context, path string, max int64) ([]byte, error) {
	return f.origin.web.get(ctx, f.pin.URL, path, max)
}

// Document implements [index.Source]. Documents are kept: what changes is
// named by another digest.
func (f *files) Document(ctx context.Context, object repo.Object) ([]byte, error) {
	kept := filepath.Join(f.origin.o.Dir, dataName, object.Digest.Hex())
	if b, err := os.ReadFile(kept); err == nil && repo.ObjectOf(b) == object {
		return b, nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot read a kept document: %w", err)
	}
	b, err := f.Fetch(ctx, repo.DataPath(object.Digest), object.Size)
	if err != nil {
		return nil, err
	}
	if repo.ObjectOf(b) != object {
		return nil, fmt.Errorf("cannot fetch document %s: the repository sent other content", object.Digest)
	}
	return b, f.origin.o.Disk.WriteFile(kept, b, 0o600)
}
