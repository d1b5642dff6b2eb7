package ingest

import (
	"context"
	"fmt"

	"stork/repo"
	"stork/repo/api"
	"stork/repo/index"
	"stork/signing"
	"stork/signing/policy"
)

// verified is what a role names, all of it here and as it must be.
type verified struct {
	documents []repo.Digest // to be served as data
	blobs     []repo.Digest
	frames    []repo.Digest // of these, those whose frames the session has made
	index     *index.Tree   // publishers only
	oldIndex  repo.Digest   // root of the index that readers see; zero: none
}

// verify checks everything that a session's role names against what readers
// see now. It changes nothing and needs no lock: when it is done, the role
// can only follow the version that it was compared with.
func (i *Ingest) verify(ctx context.Context, s *session) (*verified, error) {
	metadata, err := i.home.Metadata()
	if err != nil {
		return nil, err
	}
	role, err := metadata.VerifyRole(s.role, s.signed)
	if err != nil {
		return nil, err
	}
	now, err := currentRole(metadata, s.role)
	if err != nil {
		return nil, err
	}
	src := source{tree: i.home.TreePath, session: s}
	if s.role.IsOwner() {
		return verifyOwner(ctx, src, role)
	}
	v := &verification{src: src, publisher: s.role.Publisher(), repository: i.home.Root, workers: i.limits.Workers}
	if !i.limits.NoFrames {
		v.frames = i.home.Disk().Create
	}
	return v.run(ctx, now, role)
}

// verifyOwner checks that an owner's targets can be read by those who obey
// them.
func verifyOwner(ctx context.Context, src source, role *signing.SignedRole) (*verified, error) {
	v := new(verified)
	prefix := string(role.Role.Publisher()) + "/" + string(signing.Policy) + "/"
	for name, object := range role.Targets {
		if len(name) <= len(prefix) || name[:len(prefix)] != prefix {
			return nil, fmt.Errorf("%w: this version reads no %s", ErrUnsupported, name)
		}
		if object.Size > repo.MaxPolicy {
			return nil, fmt.Errorf("%w: %s has over %d bytes", ErrTooLarge, name, repo.MaxPolicy)
		}
		b, err := src.Document(ctx, object)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		p, err := policy.Decode(b)
		if err == nil {
			err = p.CheckOrigin(role.Role, role.Repository)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %v", ErrMismatch, name, err)
		}
		v.documents = append(v.documents, object.Digest)
	}
	return v, nil
}

// verification compares a publisher's new index with the old one and with
// the packages themselves.
type verification struct {
	src        source
	publisher  repo.Publisher
	repository repo.Digest
	workers    int
	frames     createFile // nil: none are made
}

func (v *verification) run(ctx context.Context, now, next *signing.SignedRole) (*verified, error) {
	before, err := v.before(ctx, now)
	if err != nil {
		return nil, err
	}
	object, err := v.indexOf(next)
	if err != nil {
		return nil, err
	}
	after, err := index.Open(ctx, v.src, object)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMismatch, err)
	}
	if after.Root.Publisher != v.publisher || after.Root.Repository != v.repository {
		return nil, mismatch("the index is that of %s in repository %s", after.Root.Publisher, after.Root.Repository)
	}
	added, err := additions(ctx, before, after)
	if err != nil {
		return nil, err
	}
	out := &verified{}
	if now != nil {
		out.oldIndex = before.Object.Digest
	}
	if err := v.rebuildAll(ctx, added, out); err != nil {
		return nil, err
	}
	built, documents, err := before.Extend(ctx, added)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMismatch, err)
	}
	if built.Object != object {
		return nil, mismatch("the index has the root %s, this repository builds %s of the same packages", object.Digest, built.Object.Digest)
	}
	for d := range documents {
		if _, err := v.src.locate("index document", api.Data, d); err != nil {
			return nil, err
		}
		out.documents = append(out.documents, d)
	}
	out.index = after
	return out, nil
}

// before opens the index that readers see, or an empty one.
func (v *verification) before(ctx context.Context, now *signing.SignedRole) (*index.Tree, error) {
	if now == nil {
		empty, _, err := index.New(v.publisher, v.repository)
		return empty, err
	}
	object, err := v.indexOf(now)
	if err != nil {
		return nil, err
	}
	tree, err := index.Open(ctx, source{tree: v.src.tree}, object)
	if err != nil {
		return nil, fmt.Errorf("cannot read the published index: %w", err)
	}
	return tree, nil
}

// indexOf returns the one target that a publisher's role has.
func (v *verification) indexOf(role *signing.SignedRole) (repo.Object, error) {
	object, ok := role.Targets[signing.IndexTarget(v.publisher)]
	if !ok || len(role.Targets) != 1 {
		return repo.Object{}, mismatch("%s must sign the target %s and no other", role.Role, signing.IndexTarget(v.publisher))
	}
	return object, nil
}

// additions returns the entries of after that before does not have, and an
// error if before has any that after has not, or has otherwise. Shards that
// are the same are not read.
func additions(ctx context.Context, before, after *index.Tree) ([]index.Entry, error) {
	step := after.Root.Bits - before.Root.Bits
	if step < 0 || after.Root.Packages < before.Root.Packages {
		return nil, fmt.Errorf("%w: %d packages are published, the new index has %d", ErrRetracted, before.Root.Packages, after.Root.Packages)
	}
	var added []index.Entry
	for n, object := range before.Shards() {
		if step == 0 && after.Shards()[n] == object {
			continue
		}
		old, err := before.Shard(ctx, n)
		if err != nil {
			return nil, fmt.Errorf("cannot read the published index: %w", err)
		}
		was := make(map[repo.NEVRA]repo.Digest, len(old.Packages))
		for i := range old.Packages {
			was[old.Packages[i].NEVRA()] = old.Packages[i].Record.Digest
		}
		for m := n << step; m < (n+1)<<step; m++ {
			shard, err := after.Shard(ctx, m)
			if err != nil {
				return nil, fmt.Errorf("%w: %w", ErrMismatch, err)
			}
			if added, err = without(was, shard.Packages, added); err != nil {
				return nil, err
			}
		}
		for nevra := range was {
			return nil, fmt.Errorf("%w: %s is missing from the new index", ErrRetracted, nevra)
		}
	}
	return added, nil
}

// without appends the packages that are not among was, and takes the others
// out of was.
func without(was map[repo.NEVRA]repo.Digest, packages, added []index.Entry) ([]index.Entry, error) {
	for i := range packages {
		e := &packages[i]
		record, published := was[e.NEVRA()]
		switch {
		case !published:
			added = append(added, *e)
		case record != e.Record.Digest:
			return nil, fmt.Errorf("%w: %s has other content in the new index; raise its release to publish it", ErrRetracted, e.NEVRA())
		default:
			delete(was, e.NEVRA())
		}
	}
	return added, nil
}
