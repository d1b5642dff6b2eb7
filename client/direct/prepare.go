package direct

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"stork/client/share"
	"stork/nestd/api"
	"stork/nestd/store"
	"stork/nestd/unpack"
	"stork/repo"
)

// UnpackerCommand is the hidden first argument with which this program runs
// itself as the sandboxed unpacker.
const UnpackerCommand = "unpacker"

// nobody is who the unpacker runs as.
const nobody = 65534

// Prepare implements change.Nest: it fetches and unpacks into a store of this
// guest's own, which holds packages only until they are placed.
func (o *Origin) Prepare(ctx context.Context, request api.PrepareRequest, onEvent func(api.Event)) ([]api.Prepared, error) {
	if onEvent == nil {
		onEvent = func(api.Event) {}
	}
	var prepared []api.Prepared
	for _, ref := range request.Packages {
		record, err := o.record(ctx, ref)
		if err != nil {
			return nil, err
		}
		one := api.Prepared{ID: ref.ID, Fetched: record.Blob.Size, Stored: record.InstalledSize}
		if !request.DryRun {
			if one, err = o.prepare(ctx, ref, record, onEvent); err != nil {
				return nil, fmt.Errorf("cannot prepare %s: %w", record.NEVRA(), err)
			}
		}
		prepared = append(prepared, one)
	}
	return prepared, nil
}

// record returns the record that ref names; whoever chose it has verified
// and read it, so it is among the kept documents.
func (o *Origin) record(ctx context.Context, ref api.PackageRef) (*repo.Record, error) {
	b, err := os.ReadFile(filepath.Join(o.o.Dir, dataName, ref.ID.Hex()))
	if err != nil || repo.DigestOf(b) != ref.ID {
		b, err = o.web.get(ctx, o.pin(ref.Repository).URL, repo.DataPath(ref.ID), repo.MaxRecord)
	}
	if err != nil {
		return nil, err
	}
	if repo.DigestOf(b) != ref.ID {
		return nil, &api.Error{Code: api.Untrusted, Message: fmt.Sprintf("cannot use the record of %s: it has another digest", ref.Name), Hint: "Tell the repository's operator."}
	}
	return repo.DecodeRecord(b)
}

func (o *Origin) prepare(ctx context.Context, ref api.PackageRef, record *repo.Record, onEvent func(api.Event)) (api.Prepared, error) {
	tell := func(phase api.Phase, done, total int64) {
		onEvent(api.Event{Progress: &api.Progress{ID: ref.ID, Phase: phase, Done: done, Total: total}})
	}
	blob, fetched, err := o.fetch(ctx, ref, record, func(done int64) { tell(api.Fetching, done, record.Blob.Size) })
	if err != nil {
		return api.Prepared{}, err
	}
	defer blob.Close()
	if err := o.openStore(ctx); err != nil {
		return api.Prepared{}, err
	}
	if err := o.store.Remove(ctx, ref.ID); err != nil {
		return api.Prepared{}, err
	}
	list, result, err := o.unpack(ctx, ref, record, blob, tell)
	if err != nil {
		return api.Prepared{}, err
	}
	one := api.Prepared{
		ID: ref.ID, Fetched: fetched, Stored: result.Stored, Shared: result.Shared,
		Manifest: repo.Object{Digest: record.FileList.Digest, Size: record.FileList.Size},
	}
	for i := range list.Files {
		if share.Private(&list.Files[i]) {
			one.Private = append(one.Private, list.Files[i])
		}
	}
	return one, o.o.Disk.Remove(blob.Name())
}

// fetch brings the blob into the spool, behind what an earlier run left.
func (o *Origin) fetch(ctx context.Context, ref api.PackageRef, record *repo.Record, progress func(int64)) (*os.File, int64, error) {
	path := filepath.Join(o.o.Dir, spoolName, record.Blob.Digest.Hex())
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot spool: %w", err)
	}
	object := repo.Object{Digest: record.Blob.Digest, Size: record.Blob.Size}
	fetched, err := o.web.blob(ctx, o.pin(ref.Repository).URL, object, file, progress)
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, fetched, errors.Join(err, file.Close())
	}
	return file, fetched, nil
}

// unpack runs the sandbox over the blob and makes the layer.
func (o *Origin) unpack(ctx context.Context, ref api.PackageRef, record *repo.Record, blob *os.File, tell func(api.Phase, int64, int64)) (*repo.FileList, store.Result, error) {
	stage, err := o.store.Stage()
	if err != nil {
		return nil, store.Result{}, err
	}
	list, result, err := o.fill(ctx, stage, ref, record, blob, tell)
	if errors.Is(err, unpack.ErrBlob) {
		// The next run must not resume what is wrong.
		err = errors.Join(&api.Error{Code: api.Untrusted, Message: err.Error(), Hint: "Try again; if it stays, tell the repository's operator."}, os.Remove(blob.Name()))
	}
	if err != nil {
		return nil, store.Result{}, errors.Join(err, stage.Discard())
	}
	return list, result, stage.Place(ctx, ref.ID)
}

// fill runs the sandbox and fills the stage, and says who is to blame if that
// does not work.
func (o *Origin) fill(ctx context.Context, stage *store.Stage, ref api.PackageRef, record *repo.Record, blob *os.File, tell func(api.Phase, int64, int64)) (*repo.FileList, store.Result, error) {
	unpacked, err := unpack.Open(ctx, unpack.Options{
		Exe: o.o.Exe, Args: []string{UnpackerCommand}, UID: nobody, GID: nobody,
		InstalledSize: record.InstalledSize, FileListSize: record.FileList.Size,
	}, blob, repo.Object{Digest: record.Blob.Digest, Size: record.Blob.Size})
	if err != nil {
		return nil, store.Result{}, err
	}
	defer unpacked.Close()
	list, result, err := o.compare(ctx, stage, ref, record, unpacked, tell)
	if errors.Is(err, errMismatch) || errors.Is(err, store.ErrContent) {
		err = unpacked.Blame(ctx, &api.Error{Code: api.Untrusted, Message: "cannot use the package: " + err.Error(), Hint: "Tell its publisher."})
	}
	return list, result, err
}

// errMismatch says that the right blob is not the package of its record.
var errMismatch = errors.New("it is not what its record says")

// compare fills the stage with what is unpacked, and holds all of it to what
// is signed.
func (o *Origin) compare(ctx context.Context, stage *store.Stage, ref api.PackageRef, record *repo.Record, unpacked *unpack.Package, tell func(api.Phase, int64, int64)) (*repo.FileList, store.Result, error) {
	if repo.DigestOf(unpacked.FileList()) != record.FileList.Digest {
		return nil, store.Result{}, errMismatch
	}
	list, err := repo.DecodeFileList(unpacked.FileList())
	if err != nil {
		return nil, store.Result{}, err
	}
	result, err := stage.Fill(ctx, list, share.Private, unpacked, func(done, total int64) { tell(api.Unpacking, done, total) })
	if err == nil {
		err = stage.Sync(ctx)
	}
	if err != nil {
		return nil, store.Result{}, err
	}
	if repo.DigestOf(unpacked.Record()) != ref.ID {
		return nil, store.Result{}, errMismatch
	}
	return list, result, nil
}

// Layers says where prepared layers lie, in this guest itself.
func (o *Origin) Layers(ctx context.Context, ids []repo.Digest) (map[repo.Digest]string, error) {
	if err := o.openStore(ctx); err != nil {
		return nil, err
	}
	layers := map[repo.Digest]string{}
	for _, id := range ids {
		path, ok := o.store.Layer(id)
		if !ok {
			return nil, fmt.Errorf("cannot find the unpacked package %s", id.Short())
		}
		layers[id] = path
	}
	return layers, nil
}

// Drop removes layers: they have been copied.
func (o *Origin) Drop(ctx context.Context, ids []repo.Digest) error {
	if err := o.openStore(ctx); err != nil {
		return err
	}
	for _, id := range ids {
		if err := o.store.Remove(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// openStore opens this guest's own store once. What an earlier run left in it
// is of no use to this one: no row says that it is complete, so it goes.
func (o *Origin) openStore(ctx context.Context) error {
	if o.store != nil {
		return nil
	}
	s, err := store.Open(ctx, store.Options{Dir: filepath.Join(o.o.Dir, "store"), Disk: o.o.Disk})
	if err != nil {
		return err
	}
	if _, err := s.Recover(ctx, nil); err != nil {
		return errors.Join(err, s.Close())
	}
	o.store = s
	return nil
}
