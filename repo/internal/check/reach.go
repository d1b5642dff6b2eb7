package check

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"

	"stork/repo"
	"stork/repo/delta"
	"stork/repo/index"
	"stork/signing"
)

// reach collects what every version of every role names, for readers of an
// older snapshot read older versions.
func (c *checker) reach(ctx context.Context) error {
	now, err := c.home.Versions()
	if err != nil {
		c.problem("%v", err)
		return nil
	}
	entries, err := os.ReadDir(c.home.TreePath("metadata"))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		number, name, _ := strings.Cut(strings.TrimSuffix(entry.Name(), ".json"), ".")
		role, err := repo.ParseRole(name)
		version, numberErr := strconv.ParseInt(number, 10, 64)
		if err != nil || numberErr != nil || c.versions[entry.Name()] || version > now.Roles[name] {
			continue
		}
		c.versions[entry.Name()] = true
		if err := c.reachRole(ctx, role, version, version == now.Roles[name]); err != nil {
			c.problem("metadata/%s: %v", entry.Name(), err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) reachRole(ctx context.Context, role repo.Role, version int64, current bool) error {
	b, err := os.ReadFile(c.home.TreePath(repo.MetadataPath(string(role), version)))
	if err != nil {
		return err
	}
	parsed, err := signing.ParseRole(b)
	if err != nil {
		return err
	}
	for name, object := range parsed.Targets {
		c.need(repo.DataPath(object.Digest), object)
		if role.IsOwner() || name != signing.IndexTarget(role.Publisher()) {
			continue
		}
		if err := c.reachIndex(ctx, object, current); err != nil {
			return err
		}
	}
	return nil
}

// need notes that a path must be there, with that size. It reports whether
// that was news.
func (c *checker) need(p string, o repo.Object) bool {
	if _, known := c.needed[p]; known {
		return false
	}
	c.needed[p] = o
	info, err := os.Lstat(c.home.TreePath(p))
	switch {
	case err != nil:
		c.problem("%s is missing", p)
	case info.Size() != o.Size:
		c.problem("%s has %d bytes, %d are expected", p, info.Size(), o.Size)
	}
	return true
}

// reachIndex follows an index root. Shards that an older root had too are
// not read again.
func (c *checker) reachIndex(ctx context.Context, root repo.Object, current bool) error {
	if current {
		c.current[root.Digest] = true
	}
	if _, followed := c.indexes[root.Digest]; followed {
		return nil
	}
	c.indexes[root.Digest] = root
	tree, err := index.Open(ctx, documents{c}, root)
	if err != nil {
		return err
	}
	c.packs[repo.PackPath(root.Digest)] = root
	if current {
		c.report.Packages += tree.Root.Packages
	}
	for _, table := range tree.Root.Tables {
		c.need(repo.DataPath(table.Digest), table)
	}
	for n, object := range tree.Shards() {
		if !c.need(repo.DataPath(object.Digest), object) {
			continue
		}
		shard, err := tree.Shard(ctx, n)
		if err != nil {
			return err
		}
		for i := range shard.Packages {
			if err := c.reachPackage(ctx, &shard.Packages[i]); err != nil {
				c.problem("%s: %v", shard.Packages[i].NEVRA(), err)
			}
		}
	}
	return ctx.Err()
}

func (c *checker) reachPackage(ctx context.Context, e *index.Entry) error {
	if !c.need(repo.DataPath(e.Record.Digest), e.Record) {
		return nil
	}
	b, err := documents{c}.Document(ctx, e.Record)
	if err != nil {
		return err
	}
	record, err := repo.DecodeRecord(b)
	if err != nil {
		return err
	}
	if record.NEVRA() != e.NEVRA() {
		return fmt.Errorf("its record is that of %s", record.NEVRA())
	}
	list := repo.Object{Digest: record.FileList.Digest, Size: record.FileList.Size}
	c.need(repo.DataPath(list.Digest), list)
	c.lists[repo.FramesPath(record.Blob.Digest)] = list
	if info, ok := record.InfoObject(); ok {
		c.need(repo.DataPath(info.Digest), info)
		if err := c.swarm(ctx, record, info); err != nil {
			return err
		}
	}
	c.need(repo.BlobPath(record.Blob.Digest), repo.Object{Digest: record.Blob.Digest, Size: record.Blob.Size})
	return nil
}

// swarm checks that a record's info dictionary is one of its blob. That its
// pieces are the blob's is seen when the blob is hashed.
func (c *checker) swarm(ctx context.Context, record *repo.Record, object repo.Object) error {
	b, err := documents{c}.Document(ctx, object)
	if err != nil {
		return err
	}
	info, err := repo.DecodeInfo(b)
	if err != nil {
		return err
	}
	if info.Blob != record.Blob.Digest || info.Size != record.Blob.Size || *info.Swarm() != *record.Swarm {
		return fmt.Errorf("its info dictionary is that of %s", info.Blob)
	}
	c.swarms[repo.BlobPath(info.Blob)] = *record.Swarm
	return nil
}

// documents reads index documents from the tree, verified.
type documents struct{ *checker }

// Document implements index.Source.
func (d documents) Document(ctx context.Context, o repo.Object) ([]byte, error) {
	b, err := signing.Dir(d.home.Tree()).Fetch(ctx, repo.DataPath(o.Digest), o.Size)
	if err == nil && repo.ObjectOf(b) != o {
		err = fmt.Errorf("%s does not have its digest", repo.DataPath(o.Digest))
	}
	return b, err
}

// hash checks a file that is named by its digest.
func (c *checker) hash(p string) error {
	want, err := repo.ParseHex(path.Base(p))
	if err != nil || path.Base(path.Dir(p)) != want.Hex()[:2] || strings.Count(p, "/") != 2 {
		return errors.New("is not named as the layout says")
	}
	f, err := os.Open(c.home.TreePath(p))
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	swarm, pieces := c.pieces(p, f)
	if _, err := io.Copy(io.MultiWriter(h, pieces), f); err != nil {
		return err
	}
	if got := repo.Digest(h.Sum(nil)); got != want {
		return fmt.Errorf("has the digest %s", got)
	}
	if made, ok := pieces.(*repo.PieceHasher); ok && *made.Info(want).Swarm() != swarm {
		return errors.New("has other pieces than its info dictionary says")
	}
	return nil
}

// pieces returns what hashes the pieces of a file that has a swarm.
func (c *checker) pieces(p string, f *os.File) (repo.Swarm, io.Writer) {
	swarm, ok := c.swarms[p]
	if !ok {
		return swarm, io.Discard
	}
	info, err := f.Stat()
	if err != nil || repo.PieceLength(info.Size()) == 0 {
		return swarm, io.Discard // of another size than its record says: reported
	}
	return swarm, repo.NewPieceHasher(info.Size())
}

// pack checks that a pack holds the documents of its index, in order.
func (c *checker) pack(ctx context.Context, p string) error {
	root, ok := c.packs[p]
	if !ok {
		return nil // a stray
	}
	tree, err := index.Open(ctx, documents{c}, root)
	if err != nil {
		return err
	}
	f, err := os.Open(c.home.TreePath(p))
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return err
	}
	defer z.Close()
	for _, list := range [][]repo.Object{tree.Root.Tables, tree.Shards()} {
		for _, object := range list {
			b := make([]byte, object.Size)
			if _, err := io.ReadFull(z, b); err != nil {
				return fmt.Errorf("can not be read: %w", err)
			}
			if repo.DigestOf(b) != object.Digest {
				return fmt.Errorf("does not hold %s where it should", object.Digest)
			}
		}
	}
	if n, err := z.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		return errors.New("goes on after its end")
	}
	return nil
}

// ends returns the indexes that a delta goes from and to, if there may be
// such a one: to an index that readers see.
func (c *checker) ends(p string) (old, new repo.Object, ok bool) {
	from, to, err := repo.ParseDeltaPath(p)
	if err != nil || !c.current[to] {
		return old, new, false
	}
	old, ok = c.indexes[from]
	return old, c.indexes[to], ok
}

// delta checks that a delta holds what the newer of its indexes has and the
// older has not.
func (c *checker) delta(ctx context.Context, p string) error {
	from, to, ok := c.ends(p)
	if !ok {
		return nil // a stray
	}
	b, err := signing.Dir(c.home.Tree()).Fetch(ctx, p, delta.MaxSize)
	if err != nil {
		return err
	}
	old, err := index.Open(ctx, documents{c}, from)
	if err != nil {
		return err
	}
	tree, err := index.Open(ctx, documents{c}, to)
	if err != nil {
		return err
	}
	r, err := delta.Open(b, old, documents{c}, func(_ context.Context, frame, dictionary []byte, size int64) ([]byte, error) {
		return delta.Inflate(frame, dictionary, size)
	})
	if err != nil {
		return err
	}
	if _, err := r.Root(ctx, to); err != nil {
		return err
	}
	if _, err := r.Tables(ctx, &tree.Root); err != nil {
		return err
	}
	if err := r.Shards(ctx, tree, func(int, []byte) error { return nil }); err != nil {
		return err
	}
	return r.End()
}

// strays finds files that no role names. Those of a commit under way are
// none: under the lock there is no such commit, and what was published since
// the files were listed is followed first.
func (c *checker) strays(ctx context.Context, files []string) error {
	unlock, err := c.home.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := c.reach(ctx); err != nil {
		return err
	}
	now, err := c.home.Versions()
	if err != nil {
		return nil // reported by reach
	}
	for _, p := range files {
		if _, err := os.Lstat(c.home.TreePath(p)); err == nil && c.stray(p, now.Roles, now.Snapshot) {
			c.problem("%s belongs to nothing", p)
		}
	}
	return c.leftMarks()
}

func (c *checker) stray(p string, roles map[string]int64, snapshot int64) bool {
	name := path.Base(p)
	switch top, _, _ := strings.Cut(p, "/"); top {
	case "data", "blobs":
		_, needed := c.needed[p]
		return !needed
	case "packs":
		_, needed := c.packs[p]
		return !needed
	case "frames":
		_, needed := c.lists[p]
		return !needed
	case "deltas":
		_, _, ok := c.ends(p)
		return !ok
	case "keys":
		return !strings.HasSuffix(name, ".json") || strings.Count(p, "/") != 2
	case "metadata":
		number, role, ok := strings.Cut(strings.TrimSuffix(name, ".json"), ".")
		if p == repo.TimestampPath || role == "root" {
			return false
		}
		newest := roles[role]
		if role == "snapshot" {
			newest = snapshot
		}
		version, err := strconv.ParseInt(number, 10, 64)
		return !ok || err != nil || version > newest || !strings.HasSuffix(name, ".json")
	}
	return true
}

// leftMarks reports commits that a crash interrupted.
func (c *checker) leftMarks() error {
	marks, err := filepath.Glob(filepath.Join(c.home.Uploads(), "*", "placing.json"))
	for range marks {
		c.problem("a commit was interrupted: start the server, which finishes or undoes it")
	}
	return err
}
