package home

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"stork/repo"
)

// NestKey is a nest's ed25519 public key. Its text form is "ed25519:" and
// standard base64.
type NestKey [ed25519.PublicKeySize]byte

const nestKeyPrefix = "ed25519:"

// ParseNestKey reads the text form, with or without its prefix.
func ParseNestKey(s string) (NestKey, error) {
	b, err := base64.StdEncoding.Strict().DecodeString(strings.TrimPrefix(s, nestKeyPrefix))
	if err != nil || len(b) != len(NestKey{}) {
		return NestKey{}, fmt.Errorf("cannot parse nest key %q: want %s and the base64 of %d bytes", s, nestKeyPrefix, len(NestKey{}))
	}
	return NestKey(b), nil
}

// String returns the text form.
func (k NestKey) String() string { return nestKeyPrefix + base64.StdEncoding.EncodeToString(k[:]) }

// MarshalText implements encoding.TextMarshaler.
func (k NestKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *NestKey) UnmarshalText(b []byte) (err error) {
	*k, err = ParseNestKey(string(b))
	return err
}

// Nest is a nest that the operator has approved.
type Nest struct {
	Added int64   `json:"added"` // seconds since the epoch
	Key   NestKey `json:"key"`
	Name  string  `json:"name,omitempty"` // for people
}

type nestList struct {
	Format int    `json:"format"`
	Nests  []Nest `json:"nests"` // sorted by key
}

const (
	nestsName   = "nests.json"
	nestsFormat = 1
	maxNests    = 64 << 20
)

var nestNameSyntax = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?$`)

// Nests returns the approved nests, sorted by key.
func (h *Home) Nests() ([]Nest, error) {
	list := nestList{Format: nestsFormat}
	b, err := readBounded(filepath.Join(h.dir, nestsName), maxNests)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = repo.DecodeStrict(b, &list)
	}
	if err == nil && list.Format != nestsFormat {
		err = fmt.Errorf("unknown format %d, this program reads %d", list.Format, nestsFormat)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read nests: %w", err)
	}
	return list.Nests, nil
}

// AddNest approves a nest, or gives it another name. The caller holds the
// lock.
func (h *Home) AddNest(key NestKey, name string) error {
	if name != "" && !nestNameSyntax.MatchString(name) {
		return fmt.Errorf("cannot add nest: bad name %q: want up to 64 letters, digits, dots and hyphens", name)
	}
	nests, err := h.Nests()
	if err != nil {
		return err
	}
	for i := range nests {
		if nests[i].Key == key {
			nests[i].Name = name
			return h.writeNests(nests)
		}
	}
	return h.writeNests(append(nests, Nest{Added: h.now().Unix(), Key: key, Name: name}))
}

// RemoveNest takes an approval back. The error wraps fs.ErrNotExist if there
// was none. The caller holds the lock.
func (h *Home) RemoveNest(key NestKey) error {
	nests, err := h.Nests()
	if err != nil {
		return err
	}
	rest := slices.DeleteFunc(slices.Clone(nests), func(n Nest) bool { return n.Key == key })
	if len(rest) == len(nests) {
		return fmt.Errorf("cannot remove nest %s: %w", key, fs.ErrNotExist)
	}
	return h.writeNests(rest)
}

func (h *Home) writeNests(nests []Nest) error {
	slices.SortFunc(nests, func(a, b Nest) int { return slices.Compare(a.Key[:], b.Key[:]) })
	b, err := repo.EncodeCanonical(nestList{Format: nestsFormat, Nests: nests})
	if err == nil {
		err = h.disk.WriteFile(filepath.Join(h.dir, nestsName), append(b, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("cannot record nests: %w", err)
	}
	return nil
}
