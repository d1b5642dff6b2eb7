package publish

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"

	"stork/nestd/api"
	"stork/repo"
	"stork/repo/index"
	"stork/signing"
)

// settle brings this machine and the repository to the same version: what is
// pending is sent, or found to have arrived. If the repository has anything
// else than what was signed here, it refuses to go on.
func (p *Publisher) settle(ctx context.Context, l *local, s *spool, progress func(Progress)) error {
	theirs, err := p.theirs(ctx, l.role)
	if err != nil {
		return err
	}
	if l.pending != nil {
		switch {
		case theirs != nil && same(theirs, l.pending.parsed):
			if err := l.accepted(ctx, l.pending.Role); err != nil {
				return err
			}
		case versionOf(theirs) == l.version() && l.pending.parsed.Version == l.version()+1:
			if err := p.resume(ctx, l, s, progress); err != nil {
				return err
			}
			if theirs, err = p.theirs(ctx, l.role); err != nil {
				return err
			}
		}
	}
	return compareVersions(l, theirs)
}

// theirs returns the role as the repository serves it, verified from our own
// pin; nil if it has none.
func (p *Publisher) theirs(ctx context.Context, role repo.Role) (*signing.SignedRole, error) {
	snapshot, err := p.follow(ctx)
	if err != nil {
		return nil, err
	}
	signed, err := snapshot.PinnedRole(ctx, p.Identity.Pin())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if signed.Role != role || signed.Repository != p.Repository.Root {
		return nil, fmt.Errorf("cannot follow %s: %w", role, signing.ErrUntrusted)
	}
	return signed, nil
}

func versionOf(r *signing.SignedRole) int64 {
	if r == nil {
		return 0
	}
	return r.Version
}

func same(a, b *signing.SignedRole) bool {
	return a.Version == b.Version && a.Expires.Equal(b.Expires) && maps.Equal(a.Targets, b.Targets)
}

// compareVersions refuses to extend what is not what the repository has.
func compareVersions(l *local, theirs *signing.SignedRole) error {
	ours, there := l.version(), versionOf(theirs)
	switch {
	case there > ours:
		return &api.Error{Code: api.Conflict,
			Message: fmt.Sprintf("cannot publish: the repository has version %d of %s, this machine has signed version %d", there, l.role, ours),
			Hint:    "Publish from the machine that signed it, or take its packages over with --adopt after looking at them."}
	case there < ours:
		return &api.Error{Code: api.Untrusted,
			Message: fmt.Sprintf("cannot publish: the repository has gone back to version %d of %s, version %d was accepted", there, l.role, ours),
			Hint:    "The repository or a mirror hides what you published: ask its operator."}
	case theirs != nil && !same(theirs, l.signed):
		return &api.Error{Code: api.Untrusted,
			Message: fmt.Sprintf("cannot publish: the repository has another version %d of %s than the one signed here", there, l.role),
			Hint:    "Somebody else signs with your daily key: revise your keys."}
	}
	return nil
}

// Adopt takes the repository's version of the publisher's role over as what
// this machine signed last: for a publisher who works on a second machine, or
// has lost the first one's state. It verifies that the publisher's own keys
// signed it, but not what is in it: show the difference first. It returns the
// versions before and after.
func (p *Publisher) Adopt(ctx context.Context) (from, to int64, err error) {
	l, err := p.openLocal(p.Identity.Role())
	if err != nil {
		return 0, 0, err
	}
	defer l.close()
	from = l.version()
	theirs, err := p.theirs(ctx, l.role)
	if err != nil {
		return from, from, err
	}
	if versionOf(theirs) <= from {
		return from, from, compareVersions(l, theirs)
	}
	w := p.web()
	file, err := w.Fetch(ctx, repo.MetadataPath(string(l.role), theirs.Version), repo.MaxRole)
	if err != nil {
		return from, from, err
	}
	if parsed, err := l.parse(file); err != nil || !same(parsed, theirs) {
		return from, from, fmt.Errorf("cannot adopt %s: %w", l.role, errors.Join(err, signing.ErrUntrusted))
	}
	if err := l.adoptDocuments(ctx, theirs, w); err != nil {
		return from, from, err
	}
	return from, theirs.Version, l.accepted(ctx, file)
}

// adoptDocuments fetches what the role names and this machine lacks.
func (l *local) adoptDocuments(ctx context.Context, role *signing.SignedRole, w *web) error {
	source := &keeping{l.docs, w}
	objects, err := documentsOf(ctx, role, source)
	if err != nil {
		return err
	}
	path := filepath.Join(l.dir, docsName, fmt.Sprintf("adopted-%d%s", role.Version, packSuffix))
	return l.writePack(path, objects, func(o repo.Object) ([]byte, error) { return source.Document(ctx, o) })
}

// keeping reads documents that are here and fetches the others.
type keeping struct {
	here  index.Source
	there index.Source
}

func (k *keeping) Document(ctx context.Context, o repo.Object) ([]byte, error) {
	if b, err := k.here.Document(ctx, o); err == nil {
		return b, nil
	}
	return k.there.Document(ctx, o)
}

// Discard forgets a pending version that the repository has not accepted, for
// when its package files are gone. Until another version is accepted the
// repository could still show the discarded one: it has seen the signature.
func (p *Publisher) Discard(ctx context.Context) error {
	l, err := p.openLocal(p.Identity.Role())
	if err != nil {
		return err
	}
	defer l.close()
	if l.pending == nil {
		return nil
	}
	theirs, err := p.theirs(ctx, l.role)
	if err != nil {
		return err
	}
	if theirs != nil && same(theirs, l.pending.parsed) {
		return l.accepted(ctx, l.pending.Role)
	}
	l.pending = nil
	return l.dropPending()
}
