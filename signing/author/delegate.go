package author

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"stork/repo"
	"stork/signing"
)

// Delegations returns all publishers' and owners' roles, with their pins.
func (r *Repository) Delegations() ([]signing.Delegation, error) {
	s, err := r.load()
	if err != nil {
		return nil, err
	}
	b, err := s.targets.ToBytes(false)
	if err != nil {
		return nil, fmt.Errorf("cannot encode targets: %w", err)
	}
	return signing.ReadDelegations(b)
}

func (s *state) delegation(role repo.Role) (signing.Delegation, error) {
	b, err := s.targets.ToBytes(false)
	if err != nil {
		return signing.Delegation{}, fmt.Errorf("cannot encode targets: %w", err)
	}
	all, err := signing.ReadDelegations(b)
	if err != nil {
		return signing.Delegation{}, err
	}
	for _, d := range all {
		if d.Role == role {
			return d, nil
		}
	}
	return signing.Delegation{}, fmt.Errorf("cannot find %s among the repository's delegations: %w", role, fs.ErrNotExist)
}

// AddIdentity delegates to the roles in a bundle, or takes over the newer key
// documents of roles it has. It needs the targets keys. A role's name belongs
// to its first key document for as long as the repository lives: key
// documents are served under the name, and mirrors keep them.
func (r *Repository) AddIdentity(offlineDir string, bundle Bundle) error {
	err := bundle.check()
	if err == nil {
		err = r.addIdentity(offlineDir, bundle)
	}
	if err != nil {
		return fmt.Errorf("cannot add %s: %w", bundle.Publisher(), err)
	}
	return nil
}

func (r *Repository) addIdentity(offlineDir string, bundle Bundle) error {
	s, err := r.loadWith(offlineDir)
	if err != nil {
		return err
	}
	changed := false
	for _, role := range slices.Sorted(maps.Keys(bundle.Documents)) {
		docs := bundle.Documents[role]
		delegated, err := s.delegation(role)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err == nil && delegated.Digest == repo.DigestOf(docs[len(docs)-1]) {
			continue
		}
		if err == nil && int64(len(docs)) <= delegated.Version {
			return fmt.Errorf("key document %d of %s is published, this ends with %d", delegated.Version, role, len(docs))
		}
		if err := r.writeDocuments(role, docs); err != nil {
			return err
		}
		if err := s.delegate(role, docs); err != nil {
			return err
		}
		changed = true
	}
	if !changed {
		return nil
	}
	return r.commitTargets(s)
}

// loadWith reads the state and adds the offline keys.
func (r *Repository) loadWith(offlineDir string) (*state, error) {
	s, err := r.load()
	if err != nil {
		return nil, err
	}
	offline, err := loadKeys(offlineDir)
	if err != nil {
		return nil, err
	}
	for _, k := range offline {
		s.ring.add(k)
	}
	return s, nil
}

// writeDocuments writes the key documents that are not there yet. Those that
// are must be the same.
func (r *Repository) writeDocuments(role repo.Role, docs [][]byte) error {
	if err := r.disk.MkdirAll(r.path(path.Dir(repo.KeyDocumentPath(role, 1))), 0o755); err != nil {
		return err
	}
	for i, doc := range docs {
		p := repo.KeyDocumentPath(role, int64(i)+1)
		there, err := r.read(p, repo.MaxKeyDocument)
		if err == nil && bytes.Equal(there, doc) {
			continue
		}
		if err == nil {
			return fmt.Errorf("%s is there with other content: the name %s belongs to other keys here", p, role)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := r.write(p, doc); err != nil {
			return err
		}
	}
	return nil
}

// delegate replaces or adds the delegation to a role by what its newest key
// document says.
func (s *state) delegate(role repo.Role, docs [][]byte) error {
	newest, err := signing.VerifyDocuments(docs)
	if err != nil {
		return err
	}
	keys, err := publicKeys(newest, newest.Daily.IDs)
	if err != nil {
		return err
	}
	d := s.targets.Signed.Delegations
	s.undelegate(role)
	for _, k := range keys {
		d.Keys[k.id] = k.public
	}
	d.Roles = append(d.Roles, metadata.DelegatedRole{
		Name: string(role), KeyIDs: newest.Daily.IDs, Threshold: newest.Daily.Threshold,
		Terminating: true, Paths: signing.Paths(role),
		UnrecognizedFields: map[string]any{signing.Extension: signing.DelegationFields{
			Digest: newest.Digest, Format: signing.ExtensionFormat,
			Pin: repo.DigestOf(docs[0]), Version: newest.Version,
		}},
	})
	return nil
}

// undelegate removes a role's delegation and the keys that no other uses, and
// reports whether there was one.
func (s *state) undelegate(role repo.Role) bool {
	d := s.targets.Signed.Delegations
	before := len(d.Roles)
	d.Roles = slices.DeleteFunc(d.Roles, func(one metadata.DelegatedRole) bool { return one.Name == string(role) })
	used := map[string]bool{}
	for i := range d.Roles {
		for _, id := range d.Roles[i].KeyIDs {
			used[id] = true
		}
	}
	for id := range d.Keys {
		if !used[id] {
			delete(d.Keys, id)
		}
	}
	return len(d.Roles) != before
}

// RemoveIdentity ends the delegations to a publisher's and its owner's role.
// The snapshot goes on naming their last files, as TUF demands. The error
// wraps fs.ErrNotExist if there is neither.
func (r *Repository) RemoveIdentity(offlineDir string, name repo.Publisher) error {
	s, err := r.loadWith(offlineDir)
	if err != nil {
		return fmt.Errorf("cannot remove %s: %w", name, err)
	}
	publisher, owner := s.undelegate(name.PublisherRole()), s.undelegate(name.OwnerRole())
	if !publisher && !owner {
		return fmt.Errorf("cannot remove %s: %w", name, fs.ErrNotExist)
	}
	if err := r.commitTargets(s); err != nil {
		return fmt.Errorf("cannot remove %s: %w", name, err)
	}
	return nil
}
