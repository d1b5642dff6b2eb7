package publish

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"stork/repo"
	upload "stork/repo/api"
)

// How objects are grouped into requests: large groups, for every answer
// repeats what is still missing; and how many at once.
const (
	maxBatchBytes   = 256 << 20
	maxBatchObjects = 50_000
	maxParallel     = 4
)

// How often an upload goes on after the network or the server failed, and how
// long it waits at first; it waits twice as long each time.
const (
	maxTries  = 5
	firstWait = time.Second
)

// item is one object of an upload.
type item struct {
	repo.Object
	kind    upload.Kind
	content content
}

// itemsOf lists what the pending version may have to bring, each object once.
func itemsOf(l *local, packages []*readPackage) map[repo.Digest]item {
	items := make(map[repo.Digest]item, 4*len(packages))
	add := func(object repo.Object, kind upload.Kind, from content) {
		items[object.Digest] = item{object, kind, from}
	}
	for _, read := range packages {
		add(read.blob, upload.Blob, fileContent(read.path))
		add(read.entry.Record, upload.Data, read.record)
		add(read.list, upload.Data, read.files)
		if read.info != nil {
			add(read.swarm, upload.Data, read.info)
		}
	}
	for _, object := range l.pendingDocs() {
		add(object, upload.Data, document{l.docs, object})
	}
	return items
}

type uploader struct {
	web   *web
	role  repo.Role
	items map[repo.Digest]item
}

// run sends the role and its objects until the repository has accepted it.
// What was sent is not sent again after an interruption.
func (u *uploader) run(ctx context.Context, role []byte, progress func(Progress)) (result upload.UploadResult, err error) {
	request := upload.UploadRequest{Objects: make([]upload.Object, 0, len(u.items)), Role: role}
	for _, it := range u.items {
		request.Objects = append(request.Objects, upload.Object{Digest: it.Digest, Kind: it.kind, Size: it.Size})
	}
	wait := firstWait
	for try := 1; ; try++ {
		result, err = u.attempt(ctx, request, progress)
		if err == nil || !isTransient(err) || try == maxTries {
			return result, err
		}
		select {
		case <-ctx.Done():
			return result, ctx.Err()
		case <-time.After(wait):
			wait *= 2
		}
	}
}

func (u *uploader) attempt(ctx context.Context, request upload.UploadRequest, progress func(Progress)) (upload.UploadResult, error) {
	session, err := u.web.begin(ctx, u.role, request)
	if err != nil {
		return upload.UploadResult{}, err
	}
	batches, total, err := u.batches(session.Missing)
	if err != nil {
		return upload.UploadResult{}, err
	}
	m := newMeter(progress, Uploading, total)
	m.add(0)
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(maxParallel)
	for _, batch := range batches {
		group.Go(func() error { return u.send(groupCtx, session.Session, batch, m) })
	}
	if err := group.Wait(); err != nil {
		return upload.UploadResult{}, err
	}
	return u.web.commit(ctx, u.role, session.Session)
}

// batches groups what is missing.
func (u *uploader) batches(missing []repo.Digest) (batches [][]item, total int64, err error) {
	var batch []item
	size := int64(0)
	for _, digest := range missing {
		it, ok := u.items[digest]
		if !ok {
			return nil, 0, fmt.Errorf("cannot upload: the repository asks for %s, which is no part of it", digest)
		}
		if len(batch) == maxBatchObjects || len(batch) > 0 && size+it.Size > maxBatchBytes {
			batches = append(batches, batch)
			batch, size = nil, 0
		}
		batch = append(batch, it)
		size += it.Size
		total += it.Size
	}
	if len(batch) > 0 {
		batches = append(batches, batch)
	}
	return batches, total, nil
}

// send streams a batch as one tar.
func (u *uploader) send(ctx context.Context, session string, batch []item, m *meter) error {
	r, w := io.Pipe()
	var local atomic.Pointer[error]
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := writeTar(w, batch, m)
		if err != nil && !errors.Is(err, io.ErrClosedPipe) {
			local.Store(&err)
		}
		w.CloseWithError(err)
	}()
	err := u.web.send(ctx, u.role, session, r)
	r.Close() // ends the goroutine if the server answered early
	<-done
	if own := local.Load(); own != nil {
		return *own // our own trouble, which the server only saw as a broken stream
	}
	return err
}

func writeTar(w io.Writer, batch []item, m *meter) error {
	t := tar.NewWriter(w)
	for _, it := range batch {
		header := &tar.Header{Typeflag: tar.TypeReg, Name: it.Digest.Hex(), Size: it.Size, Mode: 0o644}
		if err := t.WriteHeader(header); err != nil {
			return err
		}
		if err := copyItem(t, it, m); err != nil {
			return err
		}
	}
	return t.Close()
}

// copyItem writes one object. A file that has become shorter is an error
// here; one that has changed otherwise the server refuses.
func copyItem(t io.Writer, it item, m *meter) error {
	from, err := it.content.open()
	if err != nil {
		return err
	}
	defer from.Close()
	n, err := io.Copy(t, &metered{io.LimitReader(from, it.Size), m})
	if err != nil {
		return err
	}
	if n < it.Size {
		return fmt.Errorf("cannot upload %s: it has %d bytes, it had %d when it was signed", it.Digest, n, it.Size)
	}
	return nil
}

// metered reports what is read.
type metered struct {
	r io.Reader
	m *meter
}

func (r *metered) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.m.add(int64(n))
	return n, err
}
