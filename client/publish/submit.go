package publish

import (
	"context"
	"errors"
	"fmt"
	"time"

	"stork/nestd/api"
	"stork/repo"
	upload "stork/repo/api"
	"stork/repo/index"
	"stork/signing"
	"stork/signing/author"
	"stork/signing/policy"
)

// Submit signs the plan's version of the role and sends it, with everything
// that the repository lacks. When it returns nil, readers see the new
// version, and plan.Result says which snapshot shows it. After an error the
// next Plan finishes what was signed.
func (p *Publisher) Submit(ctx context.Context, plan *Plan, progress func(Progress)) error {
	l := plan.local
	targets := map[string]repo.Object{}
	if l.signed != nil {
		for name, object := range l.signed.Targets {
			targets[name] = object
		}
	}
	targets[signing.IndexTarget(l.role.Publisher())] = plan.tree.Object
	next := &pending{Format: localFormat}
	for _, read := range plan.packages {
		next.Files = append(next.Files, packageFile{read.blob, read.path})
	}
	if err := p.sign(l, p.Identity, next, targets, plan.docs); err != nil {
		return err
	}
	// The packs have the documents now.
	plan.docs = nil
	result, err := p.upload(ctx, l, plan.packages, progress)
	plan.Result = result
	return err
}

// sign makes the role's next version durable as pending (A1).
func (p *Publisher) sign(l *local, id *author.Identity, next *pending, targets map[string]repo.Object, docs index.Documents) (err error) {
	next.Role, err = id.SignRole(author.RoleSpec{
		Version: l.version() + 1, Expires: p.now().Add(author.RoleLifetime).Truncate(time.Second).UTC(),
		Repository: p.Repository.Root, Targets: targets,
	})
	if err != nil {
		return err
	}
	if next.parsed, err = l.parse(next.Role); err != nil {
		return err
	}
	if next.Files == nil {
		next.Files = []packageFile{}
	}
	if err := l.savePending(next, docs); err != nil {
		return fmt.Errorf("cannot keep what was signed: %w", err)
	}
	return nil
}

// resume sends what an earlier publish has signed.
func (p *Publisher) resume(ctx context.Context, l *local, s *spool, progress func(Progress)) error {
	paths := make([]string, len(l.pending.Files))
	for i, f := range l.pending.Files {
		paths[i] = f.Path
	}
	packages, err := readPackages(ctx, s, paths, progress)
	if err == nil {
		for i, read := range packages {
			if read.blob != l.pending.Files[i].Blob {
				err = fmt.Errorf("cannot publish %s: it has changed since it was signed", read.path)
			}
		}
	}
	if err != nil {
		return &api.Error{Code: api.Conflict,
			Message: fmt.Sprintf("cannot finish version %d of %s, which is signed and was not sent: %v", l.pending.parsed.Version, l.role, err),
			Hint:    "Put the package files back, or drop that version with --discard."}
	}
	_, err = p.upload(ctx, l, packages, progress)
	return err
}

// upload sends what is pending and makes it last-signed when the repository
// has accepted it.
func (p *Publisher) upload(ctx context.Context, l *local, packages []*readPackage, progress func(Progress)) (upload.UploadResult, error) {
	u := &uploader{web: p.web(), role: l.role, items: itemsOf(l, packages)}
	result, err := u.run(ctx, l.pending.Role, progress)
	if err != nil {
		// The answer may have been lost: the repository's metadata tells.
		theirs, again := p.theirs(ctx, l.role)
		if again != nil || theirs == nil || !same(theirs, l.pending.parsed) {
			return result, err
		}
		result.Version = theirs.Version
	}
	if result.Version != l.pending.parsed.Version {
		return result, fmt.Errorf("cannot publish: the repository has accepted version %d instead of %d", result.Version, l.pending.parsed.Version)
	}
	return result, l.accepted(ctx, l.pending.Role)
}

// PublishPolicy signs a policy document as the owner's default policy and
// sends it. The owner's other targets stay.
func (p *Publisher) PublishPolicy(ctx context.Context, owner *author.Identity, document []byte) error {
	role := owner.Role()
	if !role.IsOwner() {
		return fmt.Errorf("cannot publish a policy as %s: owners' roles sign policies", role)
	}
	if len(document) > repo.MaxPolicy {
		return &api.Error{Code: api.TooLarge, Message: fmt.Sprintf("cannot publish policy: over %d bytes", repo.MaxPolicy)}
	}
	rules, err := policy.Decode(document)
	if err == nil {
		err = rules.CheckOrigin(role, p.Repository.Root)
	}
	if err != nil {
		return &api.Error{Code: api.Malformed, Message: fmt.Sprintf("cannot publish policy: %v", err)}
	}
	as := *p
	as.Identity = owner
	l, err := as.openLocal(role)
	if err != nil {
		return err
	}
	defer l.close()
	if err := as.settle(ctx, l, nil, nil); err != nil {
		return err
	}
	object := repo.ObjectOf(document)
	targets := map[string]repo.Object{}
	if l.signed != nil {
		for name, object := range l.signed.Targets {
			targets[name] = object
		}
	}
	targets[signing.PolicyTarget(role.Publisher())] = object
	if err := as.sign(l, owner, &pending{Format: localFormat}, targets, index.Documents{object.Digest: document}); err != nil {
		return err
	}
	_, err = as.upload(ctx, l, nil, nil)
	return err
}

// isTransient reports whether another try may help.
func isTransient(err error) bool { return errors.Is(err, errBusy) }
