package ingest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"stork/repo"
	"stork/repo/api"
)

// Commit verifies a session and publishes it: readers see all of it or
// nothing. A session whose role is published already is committed again
// without harm.
func (i *Ingest) Commit(ctx context.Context, role repo.Role, id string) (api.UploadResult, error) {
	s, err := i.find(role, id)
	if err != nil {
		return api.UploadResult{}, err
	}
	defer func() { s.leave(i.home.Now()) }()
	if !s.committing.TryLock() {
		return api.UploadResult{}, fmt.Errorf("%w: the upload is being committed", ErrBusy)
	}
	defer s.committing.Unlock()
	done, err := i.published(ctx, role, s.digest())
	if err != nil {
		return api.UploadResult{}, err
	}
	finish := i.publish
	if done {
		finish = i.finish
	}
	if err := finish(ctx, s); err != nil {
		return api.UploadResult{}, err
	}
	result := api.UploadResult{Version: s.version}
	versions, err := i.home.Versions()
	if err != nil {
		return api.UploadResult{}, err
	}
	result.Snapshot = versions.Snapshot
	i.forget(s)
	i.log.Info("upload published", "role", role, "version", s.version, "snapshot", result.Snapshot)
	return result, nil
}

// finish does what is left of a commit that published and then failed, or
// whose answer was lost.
func (i *Ingest) finish(ctx context.Context, s *session) error {
	unlock, err := i.home.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	// The rename of the timestamp may be the step that failed.
	if err := i.home.Disk().SyncDir(i.home.TreePath("metadata")); err != nil {
		return err
	}
	m, err := readMark(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return i.clear(s.dir, m)
}

// forget removes a published session. That it fails is no reason to tell the
// publisher that publishing did: recovery clears what is left.
func (i *Ingest) forget(s *session) {
	i.mu.Lock()
	delete(i.sessions, s.id)
	i.mu.Unlock()
	if err := i.discard(s.dir); err != nil {
		i.log.Warn("published upload not cleared", "session", s.id[:12], "err", err)
	}
}

// publish verifies, then moves everything into the tree and the role into
// the snapshot, under the lock.
func (i *Ingest) publish(ctx context.Context, s *session) error {
	started := i.home.Now()
	v, err := i.verify(ctx, s)
	if err != nil {
		return err
	}
	p, err := i.placing(s, v)
	if err != nil {
		return err
	}
	src := source{tree: i.home.TreePath, session: s}
	if p.fresh() {
		if err := i.writeDeltas(ctx, p, src); err != nil {
			return err
		}
	}
	if p.Pack != "" {
		if err := i.home.Disk().Remove(p.packFile()); err != nil {
			return err
		}
		if err := i.writePack(ctx, v.index, src, p.packFile()); err != nil {
			return err
		}
	}
	i.log.Info("upload verified", "role", s.role, "version", s.version, "packages", len(v.blobs), "took", i.home.Now().Sub(started))
	unlock, err := i.home.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	// From here on a client that goes away does not stop what has begun.
	return i.place(context.WithoutCancel(ctx), p)
}

// placing is the part of a commit that changes the tree. The caller of its
// methods holds the repository's lock.
type placing struct {
	*mark
	session *session
	dir     string // of the session
	objects *verified
}

func (i *Ingest) placing(s *session, v *verified) (p *placing, err error) {
	m := &mark{Format: markFormat, Role: s.role, Digest: s.digest(), Version: s.version}
	p = &placing{mark: m, session: s, dir: s.dir, objects: v}
	if p.fresh() {
		m.OldPack = repo.PackPath(v.oldIndex)
		m.OldDeltas, err = i.deltasTo(v.oldIndex)
	}
	if v.index != nil && len(v.index.Shards()) >= i.limits.PackFrom {
		m.Pack = repo.PackPath(v.index.Object.Digest)
	}
	return p, err
}

// fresh reports whether the index takes the place of another one.
func (p *placing) fresh() bool {
	v := p.objects
	return v.index != nil && !v.oldIndex.IsZero() && v.oldIndex != v.index.Object.Digest
}

// place makes the commit's changes in order. If one fails, the tree is as it
// was, unless readers may have seen the new timestamp already: then only
// asking again tells, and a repeated commit finishes.
func (i *Ingest) place(ctx context.Context, p *placing) error {
	metadata, err := i.home.Metadata()
	if err != nil {
		return err
	}
	// The version that verify compared with may be history by now.
	if _, err := metadata.VerifyRole(p.Role, p.session.signed); err != nil {
		return err
	}
	// A commit that could be neither finished nor undone must not stand when
	// others begin to rely on what it has placed.
	if err := i.recoverSessions(ctx); err != nil {
		return err
	}
	err = i.writeMark(p.dir, p.mark)
	if err == nil {
		err = i.link(p)
	}
	if err == nil {
		err = metadata.Publish(ctx, p.Role, p.session.signed)
	}
	if err == nil {
		return i.clear(p.dir, p.mark)
	}
	if done, unsure := i.published(ctx, p.Role, p.Digest); done || unsure != nil {
		return errors.Join(err, unsure)
	}
	if undo := i.undo(p.dir, p.mark); undo != nil {
		i.log.Error("commit not undone", "session", p.session.id[:12], "err", undo)
	}
	return err
}

// link shows every object, the frames, the pack and the deltas at their places in the
// tree, and makes them durable (P1).
func (i *Ingest) link(p *placing) error {
	tree := newTreeWriter(i.home)
	for _, list := range []struct {
		kind    api.Kind
		digests []repo.Digest
	}{{api.Data, p.objects.documents}, {api.Blob, p.objects.blobs}} {
		for _, d := range list.digests {
			if err := tree.link(p.session.path(d), treePath(list.kind, d)); err != nil {
				return err
			}
		}
	}
	for _, d := range p.objects.frames {
		if err := tree.link(framesFile(p.dir, d), repo.FramesPath(d)); err != nil {
			return err
		}
	}
	if p.Pack != "" {
		if err := tree.link(p.packFile(), p.Pack); err != nil {
			return err
		}
	}
	if err := p.linkDeltas(tree); err != nil {
		return err
	}
	return tree.sync()
}

// packFile is where the session's pack is made.
func (p *placing) packFile() string { return filepath.Join(p.dir, packName) }
