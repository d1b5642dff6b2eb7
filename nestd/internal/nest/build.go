package nest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"stork/nestd/api"
	"stork/nestd/internal/fetch"
	"stork/nestd/internal/fetch/transfer"
	"stork/nestd/internal/state"
	"stork/nestd/store"
	"stork/nestd/unpack"
	"stork/repo"
	"stork/repo/index"
)

// prepareOne takes one package from its record to its layer.
func (n *Nest) prepareOne(ctx context.Context, j *job, ref api.PackageRef, entry *index.Entry) error {
	err := n.placeAgain(ctx, j)
	if err == nil || !errors.Is(err, errUnknown) {
		return err
	}
	release, err := n.jobs.builds.take(ctx, j.wanted)
	if err != nil {
		return err
	}
	defer release()
	r := n.repositories[ref.Repository]
	text, err := n.documents.fetch(ctx, r, entry.Record)
	if err != nil {
		return fmt.Errorf("cannot prepare %s: %w", ref.Name, err)
	}
	record, err := repo.DecodeRecord(text)
	if err != nil {
		return fmt.Errorf("cannot prepare %s: %w: %w", ref.Name, errMalformed, err)
	}
	if record.NEVRA() != entry.NEVRA() {
		return fmt.Errorf("cannot prepare %s: the record says it is %s: %w", entry.NEVRA(), record.NEVRA(), errMalformed)
	}
	b := &build{nest: n, job: j, repository: r, record: record, text: text, id: ref.ID, publisher: ref.Publisher}
	if err := b.run(ctx); err != nil {
		return fmt.Errorf("cannot prepare %s: %w", record.NEVRA(), err)
	}
	return nil
}

// placeAgain finishes a layer whose row is committed but which could not be
// renamed then; errUnknown if there is no such row.
func (n *Nest) placeAgain(ctx context.Context, j *job) error {
	layer, err := n.State.Layer(ctx, j.id)
	if errors.Is(err, state.ErrNotFound) {
		return errUnknown
	}
	if err != nil {
		return err
	}
	if _, placed := n.Store.Layer(j.id); !placed {
		n.jobs.mu.Lock()
		stage := n.jobs.unplaced[j.id]
		n.jobs.mu.Unlock()
		if stage == nil {
			return fmt.Errorf("cannot place layer %s: its stage is gone; restart nestd", j.id)
		}
		if err := stage.Place(ctx, j.id); err != nil {
			return err
		}
		n.jobs.mu.Lock()
		delete(n.jobs.unplaced, j.id)
		n.jobs.mu.Unlock()
	}
	j.result = preparedOf(layer)
	return nil
}

// build makes the layer of one package.
type build struct {
	nest       *Nest
	job        *job
	repository *repository
	record     *repo.Record
	text       []byte // of the record
	id         repo.Digest
	publisher  repo.Publisher
	fetched    int64
}

func (b *build) run(ctx context.Context) error {
	if done, err := b.fromParts(ctx); done || err != nil {
		return err
	}
	blob, err := b.download(ctx)
	if err != nil {
		return err
	}
	defer blob.Close()
	stage, err := b.nest.Store.Stage()
	if err != nil {
		return err
	}
	done := false
	layer, list, err := b.unpack(ctx, stage, blob)
	if err == nil {
		done, err = b.commit(ctx, stage, layer, list)
	}
	if !done {
		err = errors.Join(err, stage.Discard())
	}
	if ctx.Err() != nil && !done {
		return err // whoever asks next goes on with the blob in the spool
	}
	// The spool is scratch: a blob that stays there costs space until it is
	// stale.
	leave := b.nest.Fetcher.Discard
	if err == nil {
		leave = b.nest.Fetcher.Keep
	}
	if leaveErr := leave(b.blob()); leaveErr != nil {
		b.nest.Log.Warn("cannot empty spool", "err", leaveErr)
	}
	return err
}

func (b *build) blob() repo.Object {
	return repo.Object{Digest: b.record.Blob.Digest, Size: b.record.Blob.Size}
}

// download brings the blob into the spool, and counts what came over the
// network, also of a download that failed.
func (b *build) download(ctx context.Context) (*os.File, error) {
	object := b.blob()
	if object.Size > repo.MaxBlob {
		return nil, fmt.Errorf("%w: the blob has %d bytes", errTooLarge, object.Size)
	}
	b.job.report(api.Fetching, 0, object.Size)
	request := fetch.Request{
		BaseURL: b.repository.pin.URL, Path: repo.BlobPath(object.Digest), Object: object, Priority: b.job.priority(),
		Progress: func(p fetch.Progress) { b.job.report(api.Fetching, p.Done, p.Total) },
	}
	if info, ok := b.record.InfoObject(); ok {
		request.Info = &info
	}
	stop := b.raise(ctx, request)
	file, result, err := b.nest.Fetcher.Blob(ctx, request)
	stop()
	b.count(ctx, result)
	if errors.Is(err, fetch.ErrNoSpace) {
		// What there is of it must not keep the disk full.
		err = errors.Join(err, b.nest.Fetcher.Discard(object))
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("the repository lacks the package file: %w: %w", fetch.ErrUnreachable, err)
	}
	return file, err
}

// count notes what came over the network.
func (b *build) count(ctx context.Context, result fetch.Result) {
	b.fetched += result.Fetched
	b.nest.Log.Info("fetched", "digest", b.record.Blob.Digest, "bytes", result.Fetched, "sources", result.Describe())
	if n := result.Fetched; n > 0 {
		// The nest's life and not ctx: the bytes came, whoever left since.
		if err := b.nest.State.AddFetched(context.WithoutCancel(ctx), n); err != nil {
			b.nest.Log.Error("cannot count fetched bytes", "err", err)
		}
	}
}

// raise has a download that began in the background go first when a guest
// comes to wait for it: who asks again for a blob joins those who wait, and the
// most important of them counts. Call stop when the download has ended.
func (b *build) raise(ctx context.Context, request fetch.Request) (stop func()) {
	if request.Priority == transfer.Interactive {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var asking sync.WaitGroup
	asking.Go(func() {
		select {
		case <-b.job.wanted:
		case <-ctx.Done():
			return
		}
		request.Priority, request.Progress = transfer.Interactive, nil
		if file, _, err := b.nest.Fetcher.Blob(ctx, request); err == nil { // how it went, the first request says
			_ = file.Close()
		}
	})
	return func() {
		cancel()
		asking.Wait()
	}
}

// unpack fills the stage and compares, when it is its turn, and returns the
// layer's row and the text of its file list. Nothing is durable yet.
func (b *build) unpack(ctx context.Context, stage *store.Stage, blob *os.File) (*state.Layer, []byte, error) {
	release, err := b.nest.jobs.unpacks.take(ctx, b.job.wanted)
	if err != nil {
		return nil, nil, err
	}
	defer release()
	if err := b.room(); err != nil {
		return nil, nil, err
	}
	options := b.nest.Unpack
	options.InstalledSize, options.FileListSize = b.record.InstalledSize, b.record.FileList.Size
	b.job.report(api.Unpacking, 0, b.record.InstalledSize)
	unpacked, err := unpack.Open(ctx, options, blob, b.blob())
	if err != nil {
		return nil, nil, err
	}
	defer unpacked.Close()
	list, result, err := b.compare(ctx, stage, unpacked)
	if errors.Is(err, errMismatch) || errors.Is(err, store.ErrContent) {
		err = unpacked.Blame(ctx, err)
	}
	if err != nil {
		return nil, nil, err
	}
	return b.layer(stage, list, result), unpacked.FileList(), nil
}

// layer is the row of what a stage was filled with.
func (b *build) layer(stage *store.Stage, list *repo.FileList, result store.Result) *state.Layer {
	return &state.Layer{
		ID: b.id, Staging: stage.Name(), Manifest: b.manifest(), Private: privateOf(list, b.nest.Private),
		Stored: result.Stored, Shared: result.Shared, Objects: result.Objects, Fetched: b.fetched,
		Repository: b.repository.pin.Root, Publisher: b.publisher, Name: b.record.Name,
	}
}

// manifest names the file list.
func (b *build) manifest() repo.Object {
	return repo.Object{Digest: b.record.FileList.Digest, Size: b.record.FileList.Size}
}

// compare fills the stage with what is unpacked, and holds all of it to what
// is signed.
func (b *build) compare(ctx context.Context, stage *store.Stage, unpacked *unpack.Package) (*repo.FileList, store.Result, error) {
	list, err := b.listOf(unpacked.FileList())
	if err != nil {
		return nil, store.Result{}, err
	}
	result, err := stage.Fill(ctx, list, b.nest.Private, unpacked, func(done, total int64) {
		b.job.report(api.Unpacking, done, total)
	})
	if err == nil && !bytes.Equal(unpacked.Record(), b.text) {
		err = fmt.Errorf("%w: the package's header is not what its record says", errMismatch)
	}
	return list, result, err
}

// room reports ENOSPC if the store's disk has less room than the package's
// files need while they are unpacked; what the store has of them already is
// only known afterwards.
func (b *build) room() error {
	var disk unix.Statfs_t
	if err := unix.Statfs(b.nest.Store.Dir(), &disk); err != nil {
		return fmt.Errorf("cannot look at the store's disk: %w", err)
	}
	if free := int64(disk.Bavail) * disk.Bsize; free < b.record.InstalledSize {
		return fmt.Errorf("its files need %d bytes, the disk has %d: %w", b.record.InstalledSize, free, unix.ENOSPC)
	}
	return nil
}

// listOf holds what the unpacker says to what the publisher has signed, before
// anything of it is parsed.
func (b *build) listOf(text []byte) (*repo.FileList, error) {
	if repo.DigestOf(text) != b.record.FileList.Digest || int64(len(text)) != b.record.FileList.Size {
		return nil, fmt.Errorf("%w: the package's files are not those of its record", errMismatch)
	}
	list, err := repo.DecodeFileList(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	return list, nil
}

// commit makes the layer durable, then ready (rule N2). It waits for the disk,
// and so keeps no other package from being unpacked. From AddLayer on it is
// finished whatever happens, so the guests' leaving does not cancel it. done
// says that the row is committed, and so the stage must stay for whoever places
// it.
func (b *build) commit(ctx context.Context, stage *store.Stage, layer *state.Layer, list []byte) (done bool, err error) {
	if err := errors.Join(stage.Sync(ctx), ctx.Err()); err != nil {
		return false, err
	}
	if err := b.nest.documents.store(layer.Manifest.Digest, list); err != nil {
		return false, err
	}
	ctx = context.WithoutCancel(ctx)
	if err := b.nest.State.AddLayer(ctx, *layer, b.job.guests()); err != nil {
		return false, err
	}
	if err := stage.Place(ctx, layer.ID); err != nil {
		b.nest.jobs.mu.Lock()
		b.nest.jobs.unplaced[layer.ID] = stage
		b.nest.jobs.mu.Unlock()
		return true, err
	}
	b.job.result = preparedOf(layer)
	return true, nil
}

// preparedOf says what a layer cost the one who asked for it first.
func preparedOf(l *state.Layer) api.Prepared {
	return api.Prepared{
		ID: l.ID, Fetched: l.Fetched, Stored: l.Stored, Shared: l.Shared, Private: l.Private, Manifest: l.Manifest,
	}
}

// privateOf lists what each guest places for itself.
func privateOf(list *repo.FileList, private func(*repo.File) bool) []repo.File {
	files := []repo.File{}
	for i := range list.Files {
		if private(&list.Files[i]) {
			files = append(files, list.Files[i])
		}
	}
	return files
}
