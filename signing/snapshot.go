package signing

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"

	"stork/repo"
	"stork/signing/trust"
)

// Snapshot is one verified state of a repository. Expiry was judged when it
// was refreshed; one who keeps it compares Expires. It may be used by several
// goroutines.
type Snapshot struct {
	client *Client
	src    Source
	judged time.Time                      // the time that expiry is judged by
	pins   map[repo.Digest]trust.PinFloor // as recorded when this was refreshed; read only

	mu      sync.Mutex // guards what follows
	trusted *trustedmetadata.TrustedMetadata
	expires time.Time
	files   []string
	chains  map[repo.Role][]*KeyDocument
	roles   map[repo.Role]*SignedRole
}

// Version returns the timestamp's version.
func (s *Snapshot) Version() int64 { return s.trusted.Timestamp.Signed.Version }

// Repository returns the repository's identity.
func (s *Snapshot) Repository() repo.Digest { return s.client.Options.Root }

// Expires returns the earliest expiry of all metadata that was verified so
// far, lookups included.
func (s *Snapshot) Expires() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.expires
}

// Files returns every path of the static tree that this snapshot and the
// lookups so far were verified from, in an order in which a mirror can be
// filled: the timestamp is the last but for what lookups added. It names all
// roots and key documents from version 1, for one who starts from a pin.
func (s *Snapshot) Files() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	files := slices.DeleteFunc(slices.Clone(s.files), func(p string) bool { return p == repo.TimestampPath })
	return append(files, repo.TimestampPath)
}

// FilesOf returns the paths of the static tree from which one who starts from
// a pin verifies those roles, whether they were looked up here or not: all
// roots, the repository's roles, and of each role its key documents and, if it
// has published, its newest version. A role that is not delegated adds
// nothing.
func (s *Snapshot) FilesOf(roles ...repo.Role) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var files []string
	for v := int64(1); v <= s.trusted.Root.Signed.Version; v++ {
		files = append(files, repo.MetadataPath(metadata.ROOT, v))
	}
	named := s.trusted.Snapshot.Signed.Meta
	files = append(files, repo.TimestampPath,
		repo.MetadataPath(metadata.SNAPSHOT, s.trusted.Timestamp.Signed.Meta["snapshot.json"].Version),
		repo.MetadataPath(metadata.TARGETS, named["targets.json"].Version))
	for _, role := range roles {
		d, err := readDelegation(s.trusted.Targets[metadata.TARGETS].Signed.Delegations, role)
		if err != nil {
			continue
		}
		for v := int64(1); v <= d.Version; v++ {
			files = append(files, repo.KeyDocumentPath(role, v))
		}
		if meta := named[string(role)+".json"]; meta != nil {
			files = append(files, repo.MetadataPath(string(role), meta.Version))
		}
	}
	return files
}

// NextRoot returns the path of the root that would follow this snapshot's,
// which was not there.
func (s *Snapshot) NextRoot() string {
	return repo.MetadataPath(metadata.ROOT, s.trusted.Root.Signed.Version+1)
}

// Roles returns the roles that are delegated and have published, sorted.
func (s *Snapshot) Roles() []repo.Role {
	s.mu.Lock()
	defer s.mu.Unlock()
	var roles []repo.Role
	for _, name := range s.delegated() {
		if _, ok := s.trusted.Snapshot.Signed.Meta[string(name)+".json"]; ok {
			roles = append(roles, name)
		}
	}
	return roles
}

// delegated returns the publishers' and owners' roles among the delegations,
// sorted.
func (s *Snapshot) delegated() []repo.Role {
	d := s.trusted.Targets[metadata.TARGETS].Signed.Delegations
	if d == nil {
		return nil
	}
	var roles []repo.Role
	for i := range d.Roles {
		if role, err := repo.ParseRole(d.Roles[i].Name); err == nil {
			roles = append(roles, role)
		}
	}
	slices.Sort(roles)
	return slices.Compact(roles)
}

// FindRole returns the pin whose key document, version 1, has that digest. It
// asks the repository's delegations, which name the digest, and proves the
// answer by the document itself. If there is none, the error wraps
// fs.ErrNotExist: a repository can hide an identity, but not invent one.
func (s *Snapshot) FindRole(ctx context.Context, digest repo.Digest) (Pin, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delegations := s.trusted.Targets[metadata.TARGETS].Signed.Delegations
	for _, role := range s.delegated() {
		d, err := readDelegation(delegations, role)
		if err != nil || d.Pin != digest {
			continue
		}
		chain, err := s.chain(ctx, d)
		if err != nil {
			return Pin{}, fmt.Errorf("cannot find the role pinned as %s: %w", digest, err)
		}
		if chain[0].Digest != digest {
			return Pin{}, fmt.Errorf("cannot find the role pinned as %s: %w", digest,
				untrusted("%s begins with key document %s", role, chain[0].Digest))
		}
		return Pin{Role: role, Digest: digest}, nil
	}
	return Pin{}, fmt.Errorf("cannot find the role pinned as %s: %w", digest, fs.ErrNotExist)
}

// Lookup returns what target is, as the identity behind pin has signed it: the
// role verifies under the repository's delegation and under the newest
// key document of the pinned chain, and nothing is older than what this
// client has seen of that pin. The floor is durable when Lookup returns, or
// else Keep (docs/ordering.md, G5). That the role or the target is not published wraps
// fs.ErrNotExist.
func (s *Snapshot) Lookup(ctx context.Context, pin Pin, target string) (repo.Object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	role, err := s.pinned(ctx, pin, target)
	return found(role, target, err)
}

// LookupDelegated returns what target is by the repository's word alone: for
// a nest, which has no pins and only fetches what its guests verify.
func (s *Snapshot) LookupDelegated(ctx context.Context, name repo.Role, target string) (repo.Object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := CheckTarget(name, target)
	var role *SignedRole
	if err == nil {
		role, _, err = s.role(ctx, name)
	}
	return found(role, target, err)
}

func found(role *SignedRole, target string, err error) (repo.Object, error) {
	if err != nil {
		return repo.Object{}, fmt.Errorf("cannot look up %s: %w", target, err)
	}
	object, ok := role.Targets[target]
	if !ok {
		return repo.Object{}, fmt.Errorf("cannot look up %s in %s version %d: %w", target, role.Role, role.Version, fs.ErrNotExist)
	}
	return object, nil
}

// PinnedRole returns the whole role that pin has signed, verified as Lookup
// does.
func (s *Snapshot) PinnedRole(ctx context.Context, pin Pin) (*SignedRole, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	role, err := s.pinned(ctx, pin, "")
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", pin.Role, err)
	}
	return role, nil
}

// pinned verifies pin's role; an empty target asks for the role itself.
func (s *Snapshot) pinned(ctx context.Context, pin Pin, target string) (*SignedRole, error) {
	if _, err := repo.ParseRole(string(pin.Role)); err != nil {
		return nil, err
	}
	if target != "" {
		if err := CheckTarget(pin.Role, target); err != nil {
			return nil, err
		}
	}
	role, chain, err := s.role(ctx, pin.Role)
	if err != nil {
		return nil, err
	}
	if chain[0].Digest != pin.Digest {
		return nil, untrusted("%s begins with key document %s, pinned is %s", pin.Role, chain[0].Digest, pin.Digest)
	}
	if err := chain[len(chain)-1].verifyRole(role); err != nil {
		return nil, err
	}
	seen := seenOf(chain, role)
	return role, s.client.Update(func(state *trust.State) (bool, error) {
		if err := state.Pins[pin.Digest].Check(seen); err != nil {
			return false, err
		}
		return state.RaisePin(pin.Digest, seen), nil
	})
}

// seenOf is what of a pinned role is the floor from now on.
func seenOf(chain []*KeyDocument, role *SignedRole) trust.PinSeen {
	newest := chain[len(chain)-1]
	seen := trust.PinSeen{Role: newest.Role, Reset: newest.Reset, Version: role.Version}
	for _, document := range chain {
		seen.Documents = append(seen.Documents, document.Digest)
	}
	return seen
}

// role verifies a role and its key documents by the repository's delegation.
func (s *Snapshot) role(ctx context.Context, name repo.Role) (*SignedRole, []*KeyDocument, error) {
	d, err := readDelegation(s.trusted.Targets[metadata.TARGETS].Signed.Delegations, name)
	if err != nil {
		return nil, nil, err
	}
	chain, err := s.chain(ctx, d)
	if err != nil {
		return nil, nil, err
	}
	if role := s.roles[name]; role != nil {
		return role, chain, nil
	}
	meta := s.trusted.Snapshot.Signed.Meta[string(name)+".json"]
	if meta == nil {
		return nil, nil, fmt.Errorf("%s has published nothing yet: %w", name, fs.ErrNotExist)
	}
	path := repo.MetadataPath(string(name), meta.Version)
	b, err := fetch(ctx, s.src, path, sizeOr(meta.Length, repo.MaxRole))
	if err != nil {
		return nil, nil, err
	}
	var role *SignedRole
	err = guard(func() error {
		verified, err := s.trusted.UpdateDelegatedTargets(b, string(name), metadata.TARGETS)
		if err != nil {
			return err
		}
		if role, err = newSignedRole(verified, b); err != nil {
			return err
		}
		if role.Role != name || role.Repository != s.client.Options.Root {
			return untrusted("made for role %s of repository %s", role.Role, role.Repository.Short())
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	s.roles[name] = role
	s.verified(path, role.Expires)
	return role, chain, nil
}

// chain verifies the key documents that a delegation names and that they
// agree with it.
func (s *Snapshot) chain(ctx context.Context, d Delegation) ([]*KeyDocument, error) {
	if chain := s.chains[d.Role]; chain != nil {
		return chain, nil
	}
	docs := make([][]byte, d.Version)
	paths := make([]string, d.Version)
	for i := range docs {
		var err error
		paths[i] = repo.KeyDocumentPath(d.Role, int64(i)+1)
		if docs[i], err = fetch(ctx, s.src, paths[i], repo.MaxKeyDocument); err != nil {
			return nil, err
		}
	}
	verify := verifyChain
	if floor := s.pins[repo.DigestOf(docs[0])]; floor.Document == d.Version && floor.Newest == repo.DigestOf(docs[d.Version-1]) {
		verify = readChain
	}
	chain, err := verify(docs)
	if err != nil {
		return nil, fmt.Errorf("key documents of %s: %w", d.Role, err)
	}
	newest := chain[len(chain)-1]
	switch {
	case newest.Role != d.Role || newest.Digest != d.Digest:
		return nil, untrusted("key document %d of %s is not the one that the repository names", newest.Version, d.Role)
	case !newest.Daily.Equal(d.Keys):
		return nil, untrusted("the repository delegates %s to other keys than its key document %d", d.Role, newest.Version)
	}
	if err := CheckExpiry(paths[len(paths)-1], newest.Expires, s.judged); err != nil {
		return nil, err
	}
	s.chains[d.Role] = chain
	for _, path := range paths {
		s.verified(path, newest.Expires)
	}
	return chain, nil
}

func (s *Snapshot) verified(path string, expires time.Time) {
	s.files = append(s.files, path)
	if expires.Before(s.expires) {
		s.expires = expires
	}
}
