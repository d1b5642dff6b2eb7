package check

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"stork/repo"
	"stork/signing"
)

// envelope is any TUF file, current or superseded. Superseded ones are read
// by those who hold an older timestamp, and no newer file names their
// digests, so their signatures are all that says whether they are whole.
type envelope struct {
	Signatures []struct {
		KeyID string `json:"keyid"`
		Sig   string `json:"sig"`
	} `json:"signatures"`
	Signed map[string]any `json:"signed"`
}

// keys are the public keys that a repository ever had, by TUF key ID.
type keys map[string]ed25519.PublicKey

// signatures verifies every metadata file and key document: all of its
// signatures, by keys that roots or key documents name.
func (c *checker) signatures(files []string) error {
	known := keys{}
	byRole := map[string][]string{} // key documents
	for _, p := range files {
		if strings.HasPrefix(p, "metadata/") && strings.HasSuffix(p, ".root.json") {
			known.collect(c.home.TreePath(p))
		}
		if rest, ok := strings.CutPrefix(p, "keys/"); ok {
			known.collect(c.home.TreePath(p))
			role, _, _ := strings.Cut(rest, "/")
			byRole[role] = append(byRole[role], p)
		}
	}
	for _, p := range files {
		if !strings.HasPrefix(p, "metadata/") && !strings.HasPrefix(p, "keys/") || !strings.HasSuffix(p, ".json") {
			continue
		}
		c.report.Metadata++
		if err := known.verify(c.home.TreePath(p)); err != nil && !os.IsNotExist(err) {
			c.problem("%s: %v", p, err)
		}
	}
	delegated, err := c.delegations()
	if err != nil {
		c.problem("%v", err)
	}
	for role, documents := range byRole {
		if _, ok := delegated[role]; !ok { // removed; who pinned it may still ask
			delegated[role] = signing.Delegation{DelegationFields: signing.DelegationFields{Version: int64(len(documents))}}
		}
	}
	for role, d := range delegated {
		if err := c.chain(role, d); err != nil {
			c.problem("keys/%s: %v", role, err)
		}
	}
	return nil
}

// delegations returns what the targets role says of every role.
func (c *checker) delegations() (map[string]signing.Delegation, error) {
	all := map[string]signing.Delegation{}
	now, err := c.home.Versions()
	if err != nil {
		return all, err
	}
	b, err := os.ReadFile(c.home.TreePath(repo.MetadataPath("targets", now.Roles["targets"])))
	if err != nil {
		return all, err
	}
	list, err := signing.ReadDelegations(b)
	for _, d := range list {
		all[string(d.Role)] = d
	}
	return all, err
}

// chain verifies a role's key documents from the first to the one that is
// delegated to.
func (c *checker) chain(role string, d signing.Delegation) error {
	parsed, err := repo.ParseRole(role)
	if err != nil {
		return err
	}
	documents := make([][]byte, d.Version)
	for i := range documents {
		if documents[i], err = os.ReadFile(c.home.TreePath(repo.KeyDocumentPath(parsed, int64(i)+1))); err != nil {
			return err
		}
	}
	newest, err := signing.VerifyDocuments(documents)
	switch {
	case err != nil:
		return err
	case newest.Role != parsed:
		return fmt.Errorf("these are the key documents of %s", newest.Role)
	case !d.Digest.IsZero() && newest.Digest != d.Digest:
		return fmt.Errorf("key document %d is not the one that is delegated to", newest.Version)
	}
	return nil
}

// collect adds the keys that a root or key document lists. A file that can
// not be read is reported when it is verified.
func (k keys) collect(local string) {
	b, err := os.ReadFile(local)
	if err != nil {
		return
	}
	var document struct {
		Signed struct {
			Keys map[string]struct {
				KeyVal struct {
					Public string `json:"public"`
				} `json:"keyval"`
			} `json:"keys"`
		} `json:"signed"`
	}
	if json.Unmarshal(b, &document) != nil {
		return
	}
	for id, key := range document.Signed.Keys {
		if public, err := hex.DecodeString(key.KeyVal.Public); err == nil && len(public) == ed25519.PublicKeySize {
			k[id] = public
		}
	}
}

// verify checks that a file is exactly what was signed, by known keys only.
func (k keys) verify(local string) error {
	b, err := os.ReadFile(local)
	if err != nil {
		return err
	}
	var e envelope
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil {
		return fmt.Errorf("can not be read: %w", err)
	}
	again, err := repo.EncodeCanonical(e)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, b) {
		return errors.New("is not in canonical form")
	}
	signed, err := repo.EncodeCanonical(e.Signed)
	if err != nil {
		return err
	}
	if len(e.Signatures) == 0 {
		return errors.New("has no signature")
	}
	for _, s := range e.Signatures {
		sig, err := hex.DecodeString(s.Sig)
		public := k[s.KeyID]
		if err != nil || public == nil || !ed25519.Verify(public, signed, sig) {
			return fmt.Errorf("the signature of key %.12s is not good", s.KeyID)
		}
	}
	return nil
}
