package signing

import (
	"encoding/json"
	"fmt"

	"stork/repo"
)

// Extension is the name of the field under which Stork's own fields stand in
// the signed part of TUF files; TUF clients that do not know it ignore it.
const Extension = "stork"

// ExtensionFormat is the version of those fields that this code writes and
// reads.
const ExtensionFormat = 1

// RoleFields are in the signed part of every role that a publisher or owner
// signs, so that it can be passed off neither as another role nor as that of
// another repository.
type RoleFields struct {
	Format     int         `json:"format"`
	Repository repo.Digest `json:"repository"` // the repository's first root
	Role       repo.Role   `json:"role"`
}

// KeyFields are in the signed part of every key document. Raising Reset
// allows clients to accept role versions below those they have seen.
type KeyFields struct {
	Format int       `json:"format"`
	Reset  int64     `json:"reset"`
	Role   repo.Role `json:"role"`
}

// DelegationFields stand beside each delegation in the repository's targets
// role and say where its key documents end. They make "newest" one thing
// with the snapshot: a mirror can not hide a revocation, and a reader never
// sees new key documents with old delegations.
type DelegationFields struct {
	Digest  repo.Digest `json:"digest"` // of the newest key document
	Format  int         `json:"format"`
	Pin     repo.Digest `json:"pin"`     // of key document version 1
	Version int64       `json:"version"` // of the newest key document
}

// extension decodes the Stork fields among those that go-tuf did not know.
// If only, nothing else may be there.
func extension(fields map[string]any, only bool, into any) error {
	value, ok := fields[Extension]
	if !ok {
		return untrusted("no field %q in the signed part", Extension)
	}
	if only && len(fields) != 1 {
		return untrusted("unknown fields in the signed part")
	}
	b, err := json.Marshal(value)
	if err == nil {
		err = repo.DecodeStrict(b, into)
	}
	if err != nil {
		return untrusted("bad field %q: %v", Extension, err)
	}
	return nil
}

func checkFormat(format int) error {
	if format != ExtensionFormat {
		return fmt.Errorf("%w: format %d, this program reads %d", ErrUntrusted, format, ExtensionFormat)
	}
	return nil
}
