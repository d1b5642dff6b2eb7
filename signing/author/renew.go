package author

import (
	"fmt"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"stork/repo"
	"stork/signing"
)

// Renew replaces the timestamp when it is an hour old and the snapshot when
// half of its time is over, or both at once if force is set, and reports
// whether it did. It needs the online keys only; call it every few minutes.
func (r *Repository) Renew(force bool) (renewed bool, err error) {
	s, err := r.load()
	if err != nil {
		return false, err
	}
	now := r.now()
	switch {
	case force || s.snapshot.Signed.Expires.Sub(now) < SnapshotLifetime/2:
		renewed, err = true, r.commitSnapshot(s)
	case s.timestamp.Signed.Expires.Sub(now) <= TimestampLifetime-RenewInterval:
		renewed, err = true, r.commitTimestamp(s)
	}
	if err != nil {
		return false, fmt.Errorf("cannot renew the repository's metadata: %w", err)
	}
	return renewed, nil
}

// RenewOffline signs the next root and the next targets role, with the same
// keys and a new expiry.
func (r *Repository) RenewOffline(offlineDir string) error {
	s, err := r.loadWith(offlineDir)
	if err == nil {
		err = r.commitRoot(s, s.signers(metadata.ROOT))
	}
	if err == nil {
		err = r.commitTargets(s)
	}
	if err != nil {
		return fmt.Errorf("cannot renew root and targets: %w", err)
	}
	return nil
}

// commitRoot writes the next root.
func (r *Repository) commitRoot(s *state, signers []key) error {
	if err := s.canSign(metadata.ROOT); err != nil {
		return err
	}
	s.root.Signed.Version++
	s.root.Signed.Expires = expiry(r.now().Add(RootLifetime))
	b, err := sign(s.root, signers)
	if err != nil {
		return err
	}
	return r.write(repo.MetadataPath(metadata.ROOT, s.root.Signed.Version), b)
}

// RotateOnline replaces the snapshot and timestamp keys, both at once: after
// a theft, clients then forget the versions that the thief may have signed
// (TUF specification, 5.3.11). It needs the root keys.
//
// First a snapshot and timestamp are written that old and new keys have
// signed, then the root that names the new keys only, so that readers on
// either side of it find what they can verify.
func (r *Repository) RotateOnline(offlineDir string) error {
	if err := r.rotateOnline(offlineDir); err != nil {
		return fmt.Errorf("cannot replace the online keys: %w", err)
	}
	return nil
}

func (r *Repository) rotateOnline(offlineDir string) error {
	s, err := r.loadWith(offlineDir)
	if err != nil {
		return err
	}
	if err := s.canSign(metadata.ROOT); err != nil {
		return err
	}
	names := []string{metadata.SNAPSHOT, metadata.TIMESTAMP}
	for _, name := range names {
		keys, err := newKeys(r.disk, r.online, name, 1, nil)
		if err != nil {
			return err
		}
		s.ring.add(keys...)
		r.keys.add(keys...)
		s.root.Signed.Roles[name].Threshold = 1
		for _, k := range keys { // beside the old ones, for the double signature
			if err := s.root.Signed.AddKey(k.public, name); err != nil {
				return fmt.Errorf("cannot add %s key: %w", name, err)
			}
		}
	}
	if err := r.commitSnapshot(s); err != nil {
		return err
	}
	for _, name := range names {
		ids := s.root.Signed.Roles[name].KeyIDs
		if err := setKeys(s.root, name, s.ring.signers(ids[len(ids)-1:]), 1); err != nil {
			return err
		}
	}
	return r.commitRoot(s, s.signers(metadata.ROOT))
}

// Warning says that something will expire soon.
type Warning struct {
	What    string // a role, or "key document of " and a role
	Expires time.Time
}

// Warnings returns what will have expired soon: root and targets within 30
// days, roles and key documents within 14, the snapshot within two, and the
// timestamp within twelve hours. The last two mean that nobody calls Renew.
func (r *Repository) Warnings() ([]Warning, error) {
	s, err := r.load()
	if err != nil {
		return nil, err
	}
	var all []Warning
	warn := func(what string, expires time.Time, within time.Duration) {
		if expires.Sub(r.now()) < within {
			all = append(all, Warning{What: what, Expires: expires})
		}
	}
	warn(metadata.ROOT, s.root.Signed.Expires, 30*day)
	warn(metadata.TARGETS, s.targets.Signed.Expires, 30*day)
	warn(metadata.SNAPSHOT, s.snapshot.Signed.Expires, 2*day)
	warn(metadata.TIMESTAMP, s.timestamp.Signed.Expires, day/2)
	delegations, err := r.Delegations()
	if err != nil {
		return nil, err
	}
	for _, d := range delegations {
		b, err := r.read(repo.KeyDocumentPath(d.Role, d.Version), repo.MaxKeyDocument)
		if err != nil {
			return nil, err
		}
		doc, err := signing.ParseKeyDocument(b)
		if err != nil {
			return nil, err
		}
		warn("key document of "+string(d.Role), doc.Expires, 14*day)
		if s.version(d.Role) == 0 {
			continue
		}
		if b, err = r.published(s, d.Role); err != nil {
			return nil, err
		}
		role, err := signing.ParseRole(b)
		if err != nil {
			return nil, err
		}
		warn(string(d.Role), role.Expires, 14*day)
	}
	return all, nil
}
