package repo

import (
	"fmt"
	"strings"
)

// PackageSpec is a package as operators name it, of nests and repositories:
// [publisher/]name[=[epoch:]version[-release]].
type PackageSpec struct {
	Text      string    // as it was written
	Publisher Publisher // empty: any
	Name      Name
	version   Capability
}

// ParsePackageSpec reads a package's name, with its publisher or not, with a
// version or not.
func ParsePackageSpec(text string) (PackageSpec, error) {
	s := PackageSpec{Text: text}
	rest := text
	var err error
	if publisher, after, ok := strings.Cut(rest, "/"); ok {
		rest = after
		s.Publisher, err = ParsePublisher(publisher)
	}
	name, version, hasVersion := strings.Cut(rest, "=")
	if err == nil {
		s.Name, err = ParseName(name)
	}
	s.version.Name = name
	if err == nil && hasVersion {
		s.version.Op = Equal
		s.version.EVR, err = ParseEVR(version)
	}
	if err != nil {
		return PackageSpec{}, fmt.Errorf("cannot understand %.200q, want publisher/name=version or less: %w", text, err)
	}
	return s, nil
}

// Fits reports whether a package of that name and version is one that is
// meant: a version without a release means all its releases.
func (s *PackageSpec) Fits(name Name, evr EVR) bool {
	return s.version.Overlaps(Capability{Name: string(name), Op: Equal, EVR: evr})
}
