package author

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"

	"stork/repo"
	"stork/signing"
)

// VersionError says that a role file does not follow what is published.
type VersionError struct {
	Role      repo.Role
	Published int64 // 0: nothing
	Got       int64
}

// Error implements error.
func (e *VersionError) Error() string {
	return fmt.Sprintf("version %d of %s does not follow version %d, which is published", e.Got, e.Role, e.Published)
}

// Published returns the role file that the snapshot names. The error wraps
// fs.ErrNotExist if the role has published nothing.
func (r *Repository) Published(role repo.Role) ([]byte, error) {
	s, err := r.load()
	if err != nil {
		return nil, err
	}
	return r.published(s, role)
}

func (r *Repository) published(s *state, role repo.Role) ([]byte, error) {
	version := s.version(role)
	if version == 0 {
		return nil, fmt.Errorf("cannot read %s: nothing is published: %w", role, fs.ErrNotExist)
	}
	return r.read(repo.MetadataPath(string(role), version), repo.MaxRole)
}

// version returns the version of a role that the snapshot names, 0 for none.
func (s *state) version(role repo.Role) int64 {
	if meta := s.snapshot.Signed.Meta[string(role)+".json"]; meta != nil {
		return meta.Version
	}
	return 0
}

// VerifyRole checks that Publish would accept a role file, and returns what it
// says. If only the version is wrong, the error is a [*VersionError].
func (r *Repository) VerifyRole(role repo.Role, signed []byte) (*signing.SignedRole, error) {
	s, err := r.load()
	if err != nil {
		return nil, err
	}
	parsed, err := r.verifyRole(s, role, signed)
	if err != nil {
		return nil, fmt.Errorf("cannot accept %s: %w", role, err)
	}
	return parsed, nil
}

func (r *Repository) verifyRole(s *state, role repo.Role, signed []byte) (*signing.SignedRole, error) {
	d, err := s.delegation(role)
	if err != nil {
		return nil, err
	}
	b, err := r.read(repo.KeyDocumentPath(role, d.Version), repo.MaxKeyDocument)
	if err != nil {
		return nil, err
	}
	doc, err := signing.ParseKeyDocument(b)
	if err != nil {
		return nil, err
	}
	if doc.Digest != d.Digest || !doc.Daily.Equal(d.Keys) {
		return nil, fmt.Errorf("key document %d of %s is not the one that was delegated to", d.Version, role)
	}
	parsed, err := doc.VerifyRole(signed)
	if err != nil {
		return nil, err
	}
	if parsed.Repository != r.first {
		return nil, fmt.Errorf("%w: made for repository %s, this is %s", signing.ErrUntrusted, parsed.Repository, r.first)
	}
	if err := signing.CheckExpiry(string(role), parsed.Expires, r.now()); err != nil {
		return nil, err
	}
	if published := s.version(role); parsed.Version != published+1 {
		return nil, &VersionError{Role: role, Published: published, Got: parsed.Version}
	}
	return parsed, nil
}

// Publish makes a role file that its publisher or owner signed part of the
// repository. Everything that it names is durable already (P1). A file that
// is published already is accepted again, so that one who lost the answer may
// repeat the request.
func (r *Repository) Publish(ctx context.Context, role repo.Role, signed []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s, err := r.load()
	if err != nil {
		return err
	}
	if now, err := r.published(s, role); err == nil && bytes.Equal(now, signed) {
		return nil
	}
	parsed, err := r.verifyRole(s, role, signed)
	if err == nil {
		err = r.commitRole(s, string(role), parsed.Version, signed)
	}
	if err != nil {
		return fmt.Errorf("cannot publish %s: %w", role, err)
	}
	return nil
}
