package nest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"golang.org/x/sync/singleflight"

	"stork/nestd/internal/state"
	"stork/repo"
	"stork/repo/durable"
)

// documents keeps records, file lists and policies by digest. They come on
// demand, but only those whose size a verified parent names, so that nobody
// can fill the disk or the memory with what the repository happens to serve.
type documents struct {
	nest    *Nest
	dir     string
	disk    durable.Disk
	flights singleflight.Group
}

func (n *Nest) openDocuments(context.Context) error {
	d := &documents{nest: n, dir: n.path("documents"), disk: n.Disk}
	if err := n.Disk.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	n.documents = d
	return nil
}

func (d *documents) path(digest repo.Digest) string {
	h := digest.Hex()
	return filepath.Join(d.dir, h[:2], h)
}

// held returns a document that is on disk. One that was damaged there is
// fs.ErrNotExist, and so comes again.
func (d *documents) held(digest repo.Digest) ([]byte, error) {
	b, err := readFile(d.path(digest), max(repo.MaxFileList, repo.MaxRecord))
	if err == nil && repo.DigestOf(b) != digest {
		d.nest.Log.Error("document is damaged, it will be fetched again", "digest", digest)
		return nil, fs.ErrNotExist
	}
	return b, err
}

// store writes a document that was verified, durable when it returns (rule R1).
func (d *documents) store(digest repo.Digest, text []byte) error {
	if err := d.nest.Fetcher.KeepDocument(digest, text); err != nil {
		d.nest.Log.Warn("cannot keep document for peers", "err", err)
	}
	path := d.path(digest)
	if err := d.disk.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("cannot store document %s: %w", digest, err)
	}
	if err := d.disk.WriteFile(path, text, 0o600); err != nil {
		return fmt.Errorf("cannot store document %s: %w", digest, err)
	}
	return nil
}

// fetch returns a document that the caller has verified the name of, from
// the disk or else from the repository. However many ask at the same moment,
// it comes once.
func (d *documents) fetch(ctx context.Context, r *repository, o repo.Object) ([]byte, error) {
	if b, err := d.held(o.Digest); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return b, err
	}
	flight := d.flights.DoChan(r.pin.Root.Hex()+o.Digest.Hex(), func() (any, error) {
		// The nest's life and not ctx: others may wait for the same document.
		b, err := r.get(d.nest.life, o)
		if err != nil {
			return nil, err
		}
		return b, d.store(o.Digest, b)
	})
	select {
	case result := <-flight:
		if result.Err != nil {
			return nil, result.Err
		}
		return result.Val.([]byte), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Read returns a file of a repository's static tree as guests see it:
// metadata from the mirror, documents by digest from the disk, from the
// database or from the repository. What there is not is fs.ErrNotExist.
func (n *Nest) Read(ctx context.Context, root repo.Digest, path string) ([]byte, error) {
	r, ok := n.repositories[root]
	if !ok {
		return nil, absent("repository " + root.Short())
	}
	if !repo.IsDataPath(path) {
		return r.mirror.read(path)
	}
	digest, err := repo.ParseHex(path[strings.LastIndexByte(path, '/')+1:])
	if err != nil || path != repo.DataPath(digest) {
		return nil, absent(path)
	}
	return n.readDocument(ctx, r, digest)
}

// absent says that there is no such thing to be read, which a file that is
// missing on our own disk does not.
func absent(what string) error {
	return fmt.Errorf("cannot read %.200q: %w: %w", what, errUnknown, fs.ErrNotExist)
}

// heldDocument returns a document that is on disk or in the database, else
// fs.ErrNotExist.
func (n *Nest) heldDocument(ctx context.Context, digest repo.Digest) ([]byte, error) {
	b, err := n.documents.held(digest)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return b, err
	}
	b, err = n.State.IndexDocument(ctx, digest)
	if errors.Is(err, state.ErrNotFound) {
		return nil, fs.ErrNotExist
	}
	return b, err
}

func (n *Nest) readDocument(ctx context.Context, r *repository, digest repo.Digest) ([]byte, error) {
	b, err := n.heldDocument(ctx, digest)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return b, err
	}
	size, err := n.State.SizeOf(ctx, digest)
	if errors.Is(err, state.ErrNotFound) {
		return nil, absent(repo.DataPath(digest))
	}
	if err != nil {
		return nil, err
	}
	b, err = n.documents.fetch(ctx, r, repo.Object{Digest: digest, Size: size})
	if err != nil {
		return nil, err
	}
	return b, n.noteChildren(ctx, b)
}

// noteChildren lets guests ask for the file list of a record that they have
// read.
func (n *Nest) noteChildren(ctx context.Context, text []byte) error {
	record, err := repo.DecodeRecord(text)
	if err != nil || record.FileList.Size > repo.MaxFileList {
		return nil // not a record, or one whose file list nobody should ask for
	}
	return n.State.Bound(ctx, []repo.Object{{Digest: record.FileList.Digest, Size: record.FileList.Size}})
}
