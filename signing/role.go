package signing

import (
	"bytes"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"stork/repo"
)

// Kind is what a target is; the second part of its name.
type Kind string

// The kinds. Publishers' roles sign indexes; owners' roles sign policies and
// manifests.
const (
	Index    Kind = "index"
	Policy   Kind = "policy"
	Manifest Kind = "manifest"
)

// IndexTarget returns the name of p's index root.
func IndexTarget(p repo.Publisher) string { return string(p) + "/index/root" }

// PolicyTarget returns the name of p's trust policy.
func PolicyTarget(p repo.Publisher) string { return string(p) + "/policy/default" }

// ManifestTarget returns the name of one of p's manifests.
func ManifestTarget(p repo.Publisher, name string) string { return string(p) + "/manifest/" + name }

// Paths returns the TUF path patterns that a role is delegated.
func Paths(role repo.Role) []string {
	p := string(role.Publisher())
	if role.IsOwner() {
		return []string{p + "/policy/*", p + "/manifest/*"}
	}
	return []string{p + "/index/*"}
}

// isTargetName reports whether s may be the last part of a target's name:
// lower-case letters, digits and inner hyphens, at most 64.
func isTargetName(s string) bool {
	outside := func(c rune) bool { return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' }
	return s != "" && len(s) <= 64 && !strings.ContainsFunc(s, outside) && s[0] != '-' && s[len(s)-1] != '-'
}

// CheckTarget refuses names that role may not sign. A name is always
// <publisher>/<kind>/<name>.
func CheckTarget(role repo.Role, target string) error {
	parts := strings.Split(target, "/")
	if len(parts) != 3 || parts[0] != string(role.Publisher()) || !isTargetName(parts[2]) {
		return untrusted("%s may not sign %q", role, target)
	}
	kind := Kind(parts[1])
	if role.IsOwner() && (kind == Policy || kind == Manifest) || !role.IsOwner() && kind == Index {
		return nil
	}
	return untrusted("%s may not sign %q", role, target)
}

// SignedRole is what a publisher's or owner's role file says.
type SignedRole struct {
	Role       repo.Role
	Repository repo.Digest // the first root of the repository it is made for
	Version    int64
	Expires    time.Time
	Targets    map[string]repo.Object

	meta *metadata.Metadata[metadata.TargetsType]
}

// ParseRole reads a role file that a publisher or owner signed. It checks its
// form only, no signature: see [KeyDocument.VerifyRole].
func ParseRole(b []byte) (*SignedRole, error) {
	if len(b) > repo.MaxRole {
		return nil, untrusted("role has over %d bytes", repo.MaxRole)
	}
	var role *SignedRole
	err := guard(func() error {
		meta, err := (&metadata.Metadata[metadata.TargetsType]{}).FromBytes(b)
		if err != nil {
			return err
		}
		role, err = newSignedRole(meta, b)
		return err
	})
	return role, err
}

func newSignedRole(meta *metadata.Metadata[metadata.TargetsType], b []byte) (*SignedRole, error) {
	again, err := meta.ToBytes(false)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, b) {
		return nil, untrusted("role is not in canonical form")
	}
	var fields RoleFields
	if err := extension(meta.Signed.UnrecognizedFields, true, &fields); err != nil {
		return nil, err
	}
	if err := checkFormat(fields.Format); err != nil {
		return nil, err
	}
	if _, err := repo.ParseRole(string(fields.Role)); err != nil {
		return nil, err
	}
	if meta.Signed.Delegations != nil {
		return nil, untrusted("%s delegates, which it may not", fields.Role)
	}
	if meta.Signed.Version < 1 {
		return nil, untrusted("%s has version %d", fields.Role, meta.Signed.Version)
	}
	targets, err := readTargets(fields.Role, meta.Signed.Targets)
	return &SignedRole{
		Role: fields.Role, Repository: fields.Repository, Version: meta.Signed.Version,
		Expires: meta.Signed.Expires, Targets: targets, meta: meta,
	}, err
}

func readTargets(role repo.Role, files map[string]*metadata.TargetFiles) (map[string]repo.Object, error) {
	targets := make(map[string]repo.Object, len(files))
	for name, file := range files {
		if err := CheckTarget(role, name); err != nil {
			return nil, err
		}
		sum := file.Hashes["sha256"]
		if len(file.Hashes) != 1 || len(sum) != len(repo.Digest{}) || file.Length < 0 || file.Custom != nil || len(file.UnrecognizedFields) != 0 {
			return nil, untrusted("target %s: want a length and one SHA-256", name)
		}
		targets[name] = repo.Object{Digest: repo.Digest(sum), Size: file.Length}
	}
	return targets, nil
}
