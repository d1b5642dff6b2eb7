package nest

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"stork/nestd/api"
	"stork/nestd/internal/fetch"
	"stork/nestd/internal/state"
	"stork/nestd/store"
	"stork/nestd/unpack"
)

// fromParts makes the layer of what the nest has of the package already and of
// what the repository offers of it one by one. done says that the layer's row
// is committed. If it returns neither that nor an error, the whole package is
// to be fetched: there is little to gain, or no such offer, or it turned out to
// be of no use.
func (b *build) fromParts(ctx context.Context) (done bool, err error) {
	p, err := b.planParts(ctx)
	if err == nil && p == nil {
		return false, nil
	}
	if err == nil {
		done, err = b.buildParts(ctx, p)
	}
	if err == nil || done || ctx.Err() != nil || isNoSpace(err) {
		return done, err
	}
	b.nest.Log.Info("the whole package is fetched", "pkg", b.record.NEVRA(), "err", err)
	return false, nil
}

// isNoSpace reports whether an error is one that the whole package would meet
// as well.
func isNoSpace(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, fetch.ErrNoSpace)
}

// buildParts fetches what is missing and commits the layer.
func (b *build) buildParts(ctx context.Context, p *parts) (done bool, err error) {
	var file *os.File
	if len(p.ranges) > 0 {
		file, err = b.fetchRanges(ctx, p.ranges, func(at fetch.Progress) { b.job.report(api.Fetching, at.Done, at.Total) })
		if err != nil {
			return false, err
		}
		defer file.Close()
	}
	stage, err := b.nest.Store.Stage()
	if err != nil {
		return false, err
	}
	layer, err := b.unpackParts(ctx, stage, p, file)
	if err == nil {
		done, err = b.commit(ctx, stage, layer, p.text)
	}
	if !done {
		err = errors.Join(err, stage.Discard())
	}
	return done, err
}

// unpackParts fills the stage when it is its turn, and returns the layer's
// row. Nothing is durable yet. The store hashes what it writes, wherever it
// comes from, and the list is the signed one: so nothing else is to be
// compared. That the package's own header is what its record says only the
// package could tell, and nobody relies on it.
func (b *build) unpackParts(ctx context.Context, stage *store.Stage, p *parts, file *os.File) (*state.Layer, error) {
	release, err := b.nest.jobs.unpacks.take(ctx, b.job.wanted)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := b.room(); err != nil {
		return nil, err
	}
	source := &partsSource{here: p.here}
	defer source.Close()
	b.job.report(api.Unpacking, 0, b.record.InstalledSize)
	if file != nil {
		options := b.nest.Unpack
		options.InstalledSize, options.FileListSize = b.record.InstalledSize, b.record.FileList.Size
		if source.absent, err = unpack.OpenParts(ctx, options, file, b.blob(), p.absent); err != nil {
			return nil, err
		}
		defer source.absent.Close()
	}
	result, err := stage.Fill(ctx, p.list, b.nest.Private, source, func(done, total int64) {
		b.job.report(api.Unpacking, done, total)
	})
	if err != nil {
		return nil, err
	}
	return b.layer(stage, p.list, result), nil
}
