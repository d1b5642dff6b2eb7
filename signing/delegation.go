package signing

import (
	"fmt"
	"io/fs"
	"slices"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"stork/repo"
)

// Delegation is what the repository's targets role says of one role.
type Delegation struct {
	Role repo.Role
	Keys Keys
	DelegationFields
}

// ReadDelegations reads the delegations in a targets role, in its order, and
// checks their form, no signature. Roles that are neither publishers' nor
// owners' are left out: nothing here looks at them.
func ReadDelegations(targets []byte) ([]Delegation, error) {
	var all []Delegation
	err := guard(func() error {
		meta, err := (&metadata.Metadata[metadata.TargetsType]{}).FromBytes(targets)
		if err != nil {
			return err
		}
		if meta.Signed.Delegations == nil {
			return nil
		}
		for _, d := range meta.Signed.Delegations.Roles {
			role, err := repo.ParseRole(d.Name)
			if err != nil {
				continue
			}
			one, err := readDelegation(meta.Signed.Delegations, role)
			if err != nil {
				return err
			}
			all = append(all, one)
		}
		return nil
	})
	return all, err
}

// readDelegation finds role's delegation and checks that it is exactly what
// Stork makes: its own paths, terminating, ed25519 keys.
func readDelegation(d *metadata.Delegations, role repo.Role) (Delegation, error) {
	found := -1
	if d != nil && d.SuccinctRoles == nil {
		for i := range d.Roles {
			if d.Roles[i].Name != string(role) {
				continue
			}
			if found >= 0 {
				return Delegation{}, untrusted("%s is delegated twice", role)
			}
			found = i
		}
	}
	if found < 0 {
		return Delegation{}, fmt.Errorf("cannot find %s among the repository's delegations: %w", role, fs.ErrNotExist)
	}
	one := d.Roles[found]
	if !one.Terminating || len(one.PathHashPrefixes) != 0 || !slices.Equal(one.Paths, Paths(role)) {
		return Delegation{}, untrusted("the delegation to %s has other paths than its own", role)
	}
	keys, err := readKeys(d.Keys, one.KeyIDs, one.Threshold)
	if err != nil {
		return Delegation{}, err
	}
	out := Delegation{Role: role, Keys: keys}
	if err := extension(one.UnrecognizedFields, true, &out.DelegationFields); err != nil {
		return Delegation{}, err
	}
	if out.Version < 1 || out.Version > MaxKeyDocuments {
		return Delegation{}, untrusted("the delegation to %s names key document %d", role, out.Version)
	}
	return out, checkFormat(out.Format)
}
