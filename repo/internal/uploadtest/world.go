// Package uploadtest makes repositories, publishers and uploads for the tests
// of the packages beside it: good uploads as a publisher's tool makes them,
// and bad ones as a thief of its keys would. Nothing of it ships.
//
// Start with [NewWorld], [World.Publisher] and [Publisher.Prepare].
package uploadtest

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"stork/repo"
	"stork/repo/api"
	"stork/repo/durable"
	"stork/repo/index"
	"stork/repo/internal/home"
	"stork/repo/rpmfile"
	"stork/signing"
	"stork/signing/author"
)

// World is one repository with its offline keys.
type World struct {
	Home    *home.Home
	Offline string
}

// NewWorld makes a repository in a directory of its own.
func NewWorld(tb testing.TB) *World {
	tb.Helper()
	return NewWorldIn(tb, scratch(tb))
}

// NewWorldIn makes a repository in a directory.
func NewWorldIn(tb testing.TB, dir string) *World {
	tb.Helper()
	w := &World{Offline: filepath.Join(dir, "offline")}
	h, err := home.Init(home.InitOptions{Dir: filepath.Join(dir, "repo"), Offline: w.Offline})
	if err != nil {
		tb.Fatal(err)
	}
	w.Home = h
	return w
}

// scratch makes a directory in memory where there is one: these tests make
// thousands of fsyncs, and what a disk does after a crash they learn from
// injected faults, not from the disk. The program's own tests use the disk.
func scratch(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "stork-repo-test-")
	if err != nil {
		return tb.TempDir()
	}
	tb.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			tb.Error(err)
		}
	})
	return dir
}

// Reopen opens the repository with another disk.
func (w *World) Reopen(tb testing.TB, disk durable.Disk) *home.Home {
	tb.Helper()
	h, err := home.Open(w.Home.Dir(), disk, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return h
}

// Quiet is a log for what is expected.
func Quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// Publisher publishes to a world, and remembers what it has signed.
type Publisher struct {
	Name     repo.Publisher
	Index    *author.Identity
	Owner    *author.Identity
	World    *World
	Version  int64
	Tree     *index.Tree
	versions map[repo.Role]int64
}

// Publisher adds a publisher and owner.
func (w *World) Publisher(tb testing.TB, name repo.Publisher) *Publisher {
	tb.Helper()
	p := w.Stranger(tb, name)
	unlock, err := w.Home.Lock(context.Background())
	if err != nil {
		tb.Fatal(err)
	}
	defer unlock()
	metadata, err := w.Home.Metadata()
	if err == nil {
		err = metadata.AddIdentity(w.Offline, author.NewBundle(p.Index, p.Owner))
	}
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// Stranger makes a publisher that the repository does not know.
func (w *World) Stranger(tb testing.TB, name repo.Publisher) *Publisher {
	tb.Helper()
	dir := scratch(tb)
	p := &Publisher{Name: name, World: w, versions: map[repo.Role]int64{}}
	var err error
	if p.Index, err = author.CreateIdentity(durable.Disk{}, dir, name.PublisherRole(), time.Now()); err != nil {
		tb.Fatal(err)
	}
	if p.Owner, err = author.CreateIdentity(durable.Disk{}, dir, name.OwnerRole(), time.Now()); err != nil {
		tb.Fatal(err)
	}
	if p.Tree, _, err = index.New(name, w.Home.Root); err != nil {
		tb.Fatal(err)
	}
	return p
}

// Upload is everything that one upload sends.
type Upload struct {
	Name    repo.Role
	Signed  []byte
	Objects []api.Object
	Content map[repo.Digest][]byte
	tree    *index.Tree // what becomes the publisher's when it is published
}

// Request returns the request that opens it.
func (u *Upload) Request() api.UploadRequest {
	return api.UploadRequest{Role: u.Signed, Objects: u.Objects}
}

// Declare adds an object.
func (u *Upload) Declare(kind api.Kind, b []byte) repo.Object {
	o := repo.ObjectOf(b)
	if u.Content[o.Digest] == nil {
		u.Objects = append(u.Objects, api.Object{Digest: o.Digest, Kind: kind, Size: o.Size})
	}
	u.Content[o.Digest] = b
	return o
}

// Package is a package with what is made of it.
type Package struct {
	Record []byte
	List   []byte
	Info   []byte // empty if the record has no swarm
	Blob   []byte
	Entry  index.Entry
}

// Read makes a package of its blob.
func Read(tb testing.TB, blob []byte) Package {
	tb.Helper()
	pkg, err := rpmfile.Build(bytes.NewReader(blob))
	if err != nil {
		tb.Fatal(err)
	}
	record, list := pkg.Record, pkg.Files
	return Encode(tb, record, list, blob)
}

// Encode makes a package of what was read, or changed since.
func Encode(tb testing.TB, record *repo.Record, list *repo.FileList, blob []byte) Package {
	tb.Helper()
	p := Package{Blob: blob}
	var err error
	if p.List, _, err = list.Encode(); err != nil {
		tb.Fatal(err)
	}
	if p.Record, _, err = record.Encode(); err != nil {
		tb.Fatal(err)
	}
	p.Entry = index.EntryOf(record, repo.ObjectOf(p.Record))
	if record.Swarm != nil {
		pieces := repo.NewPieceHasher(record.Blob.Size)
		pieces.Write(blob)
		p.Info = pieces.Info(record.Blob.Digest).Encode()
	}
	return p
}

// Prepare makes the upload that adds packages to what p has published.
func (p *Publisher) Prepare(tb testing.TB, blobs ...[]byte) *Upload {
	tb.Helper()
	var packages []Package
	for _, blob := range blobs {
		packages = append(packages, Read(tb, blob))
	}
	return p.PreparePackages(tb, p.Tree, packages...)
}

// PreparePackages makes an upload of base and packages, whatever they are.
func (p *Publisher) PreparePackages(tb testing.TB, base *index.Tree, packages ...Package) *Upload {
	tb.Helper()
	u := &Upload{Name: p.Name.PublisherRole(), Content: map[repo.Digest][]byte{}}
	var entries []index.Entry
	for _, pkg := range packages {
		u.Declare(api.Data, pkg.Record)
		u.Declare(api.Data, pkg.List)
		if len(pkg.Info) > 0 {
			u.Declare(api.Data, pkg.Info)
		}
		u.Declare(api.Blob, pkg.Blob)
		entries = append(entries, pkg.Entry)
	}
	tree, documents, err := base.Extend(context.Background(), entries)
	if err != nil {
		tb.Fatal(err)
	}
	for b := range maps.Values(documents) {
		u.Declare(api.Data, b)
	}
	u.tree = tree
	u.Signed = p.Sign(tb, p.Index, p.Version+1, map[string]repo.Object{signing.IndexTarget(p.Name): tree.Object})
	return u
}

// PrepareOwner makes the upload of an owner's target.
func (p *Publisher) PrepareOwner(tb testing.TB, target string, content []byte) *Upload {
	tb.Helper()
	u := &Upload{Name: p.Name.OwnerRole(), Content: map[repo.Digest][]byte{}}
	object := u.Declare(api.Data, content)
	u.Signed = p.Sign(tb, p.Owner, p.versions[u.Name]+1, map[string]repo.Object{target: object})
	return u
}

// Sign makes a role file.
func (p *Publisher) Sign(tb testing.TB, by *author.Identity, version int64, targets map[string]repo.Object) []byte {
	tb.Helper()
	b, err := by.SignRole(author.RoleSpec{
		Version: version, Expires: time.Now().Add(author.RoleLifetime), Repository: p.World.Home.Root, Targets: targets,
	})
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// Published remembers that an upload was published.
func (p *Publisher) Published(u *Upload) {
	if u.tree != nil {
		p.Tree = u.tree
		p.Version++
	}
	p.versions[u.Name]++
}

// At opens the repository at another time.
func (w *World) At(tb testing.TB, now func() time.Time) *home.Home {
	tb.Helper()
	h, err := home.Open(w.Home.Dir(), durable.Disk{}, now)
	if err != nil {
		tb.Fatal(err)
	}
	return h
}
