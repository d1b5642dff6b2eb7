package nest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"stork/nestd/api"
	"stork/repo"
	"stork/signing"
	"stork/signing/policy"
)

// trusts keeps what guests of each owner are told of one snapshot. The zero
// value tells nothing: there was no refresh yet.
type trusts struct {
	mu       sync.Mutex
	snapshot *signing.Snapshot
	by       map[repo.Digest]*told // by owner
}

// told is what guests of one owner are told, and what those are that know it.
type told struct {
	digest repo.Digest
	all    *api.Trust
	same   *api.Trust
}

func newTold(all *api.Trust) *told {
	same := &api.Trust{Same: true, Files: []api.TrustFile{}}
	for _, f := range all.Files {
		if repo.IsDataPath(f.Path) {
			same.Files = append(same.Files, f)
		}
	}
	return &told{digest: all.Digest(), all: all, same: same}
}

func (t *told) answer(known repo.Digest) *api.Trust {
	if known == t.digest {
		return t.same
	}
	return t.all
}

// show begins anew with a snapshot that guests see from now on.
func (t *trusts) show(snapshot *signing.Snapshot) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.snapshot, t.by = snapshot, map[repo.Digest]*told{}
}

// Trust returns the files that a guest reads to verify a repository, as far as
// the nest holds them. Where another snapshot is shown meanwhile, the files are
// still those of one: the older. known names the files that the guest knows.
func (n *Nest) Trust(ctx context.Context, guest string, root, known repo.Digest) (*api.Trust, error) {
	g, err := n.guest(ctx, guest)
	if err != nil {
		return nil, err
	}
	r := n.repositories[root]
	if r == nil {
		return nil, absent("repository " + root.Short())
	}
	t := &r.trusts
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.snapshot == nil {
		return &api.Trust{Files: []api.TrustFile{}}, nil
	}
	if told := t.by[g.Owner]; told != nil {
		return told.answer(known), nil
	}
	w := &trustWalk{nest: n, repository: r, answer: &api.Trust{Files: []api.TrustFile{}}, seen: map[string]bool{}}
	if err := w.walk(ctx, t.snapshot, g.Owner); err != nil {
		return nil, fmt.Errorf("cannot gather what verifies repository %s: %w", root.Short(), err)
	}
	t.by[g.Owner] = newTold(w.answer)
	return t.by[g.Owner].answer(known), nil
}

// trustWalk gathers files up to MaxTrust bytes.
type trustWalk struct {
	nest       *Nest
	repository *repository
	answer     *api.Trust
	seen       map[string]bool
	size       int
}

// walk goes the way of a guest: owner, policy, publishers, index roots. It ends
// without an error where a guest would find something amiss and say so.
func (w *trustWalk) walk(ctx context.Context, s *signing.Snapshot, owner repo.Digest) error {
	if err := w.files(s.FilesOf()); err != nil {
		return err
	}
	w.add(api.TrustFile{Path: s.NextRoot(), Absent: true})
	pin, err := s.FindRole(ctx, owner)
	if err != nil {
		return ignoreBroken(err)
	}
	rules, err := w.policy(ctx, s, pin.Role)
	if err != nil || rules == nil {
		return err
	}
	for _, p := range rules.Publishers() {
		if err := w.role(ctx, s, p.Role, signing.IndexTarget(p.Role.Publisher())); err != nil {
			return err
		}
	}
	return nil
}

// policy adds an owner's role and policy, and returns what the latter says.
func (w *trustWalk) policy(ctx context.Context, s *signing.Snapshot, owner repo.Role) (*policy.Policy, error) {
	target := signing.PolicyTarget(owner.Publisher())
	if err := w.role(ctx, s, owner, target); err != nil {
		return nil, err
	}
	object, err := s.LookupDelegated(ctx, owner, target)
	if err != nil {
		return nil, ignoreBroken(err)
	}
	b, err := w.nest.documents.held(object.Digest)
	if err != nil {
		return nil, ignoreBroken(err)
	}
	rules, err := policy.Decode(b)
	if err != nil {
		return nil, nil // for the guest to find
	}
	return rules, nil
}

// role adds the files of a role, and the document that one of its targets is.
func (w *trustWalk) role(ctx context.Context, s *signing.Snapshot, role repo.Role, target string) error {
	if err := w.files(s.FilesOf(role)); err != nil {
		return err
	}
	object, err := s.LookupDelegated(ctx, role, target)
	if err != nil || w.size+int(object.Size) > api.MaxTrust {
		return ignoreBroken(err)
	}
	b, err := w.nest.heldDocument(ctx, object.Digest)
	if err != nil {
		return ignoreBroken(err)
	}
	w.add(api.TrustFile{Path: repo.DataPath(object.Digest), Content: b})
	return nil
}

// files adds what the mirror holds of the paths.
func (w *trustWalk) files(paths []string) error {
	for _, path := range paths {
		if w.seen[path] {
			continue
		}
		b, err := w.repository.mirror.read(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		w.add(api.TrustFile{Path: path, Content: b})
	}
	return nil
}

func (w *trustWalk) add(f api.TrustFile) {
	if w.seen[f.Path] || w.size+len(f.Content) > api.MaxTrust {
		return
	}
	w.seen[f.Path] = true
	w.size += len(f.Content)
	w.answer.Files = append(w.answer.Files, f)
}

// ignoreBroken drops errors about what the repository says: the guest finds
// them for itself, and tells its user.
func ignoreBroken(err error) error {
	if isBroken(err) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, signing.ErrMissing) {
		return nil
	}
	return err
}
