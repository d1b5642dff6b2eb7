package solve

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"
	"sync"

	"stork/repo"
)

// Spec is what a user writes to name packages.
type Spec struct {
	Text string // as it was written
	Kind SpecKind

	Name       repo.Name       // NameSpec: the whole name; others empty
	Arch       repo.Arch       // NameSpec and GlobSpec: after the last dot, if it is an architecture
	Op         repo.Op         // NameSpec: Any if no version was given
	EVR        repo.EVR        // NameSpec
	Pattern    string          // GlobSpec: of the name
	Capability repo.Capability // PathSpec and CapabilitySpec
}

// SpecKind is how a spec names packages.
type SpecKind string

// The kinds of spec. A NameSpec that no package's name fits is tried as a
// capability by Solve.
const (
	NameSpec       SpecKind = "name"
	GlobSpec       SpecKind = "glob"
	PathSpec       SpecKind = "path"
	CapabilitySpec SpecKind = "capability"
)

const maxSpec = 1024

// Most specs are plain names: these are compiled when the first is not.
var (
	comparison = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^([^<>=!\s]+)\s*(<=|>=|=|<|>)\s*([^<>=\s]+)$`)
	})
	architecture = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^(.+)\.(noarch|x86_64|x86_64_v[234]|i[3456]86|aarch64|armv[5-8][a-z]*|ppc64|ppc64le|s390x?|riscv64|loongarch64|mips64(?:el)?)$`)
	})
)

// cutVersion returns the parts of "name op version", or only the name.
func cutVersion(s string) (name, op, version string) {
	if strings.ContainsAny(s, "<>=") {
		if m := comparison().FindStringSubmatch(s); m != nil {
			return m[1], m[2], m[3]
		}
	}
	return s, "", ""
}

// cutArch returns the parts of "name.arch", or only the name.
func cutArch(s string) (name string, arch repo.Arch) {
	if strings.Contains(s, ".") {
		if m := architecture().FindStringSubmatch(s); m != nil {
			return m[1], repo.Arch(m[2])
		}
	}
	return s, ""
}

// ParseSpec reads "pkg", "pkg.arch", "pkg=1.2", "pkg >= 1.2-3", a glob such as
// "lib*", "/a/path", or a capability such as "cap(x)" or "libc.so.6()(64bit)",
// with a version or not.
func ParseSpec(s string) (Spec, error) {
	spec, err := parseSpec(strings.TrimSpace(s))
	if err != nil {
		return Spec{}, fmt.Errorf("cannot understand %q: %w", s, err)
	}
	spec.Text = s
	return spec, nil
}

func parseSpec(s string) (Spec, error) {
	if s == "" || len(s) > maxSpec {
		return Spec{}, errors.New("want a package, a path or a capability")
	}
	if s[0] == '/' {
		if err := repo.CheckPath(s); err != nil {
			return Spec{}, errors.New("want an absolute path without . or ..")
		}
		return Spec{Kind: PathSpec, Capability: repo.Capability{Name: s}}, nil
	}
	name, op, version := cutVersion(s)
	if strings.Contains(name, "(") {
		return capabilitySpec(name, op, version)
	}
	if strings.ContainsAny(name, "*?[") {
		return globSpec(name, op)
	}
	return nameSpec(name, op, version)
}

func capabilitySpec(name, op, version string) (Spec, error) {
	text := name
	if op != "" {
		text = name + " " + op + " " + version
	}
	c, err := repo.ParseCapability(text)
	if err != nil {
		return Spec{}, errors.New("want a capability, as name or name op version")
	}
	return Spec{Kind: CapabilitySpec, Capability: c}, nil
}

func globSpec(pattern, op string) (Spec, error) {
	spec := Spec{Kind: GlobSpec, Pattern: pattern}
	if op != "" {
		return Spec{}, errors.New("a pattern can not have a version")
	}
	spec.Pattern, spec.Arch = cutArch(pattern)
	if _, err := path.Match(spec.Pattern, "x"); err != nil || strings.Contains(spec.Pattern, "/") {
		return Spec{}, errors.New("want a pattern of a name, with * ? [..]")
	}
	return spec, nil
}

func nameSpec(name, op, version string) (Spec, error) {
	spec := Spec{Kind: NameSpec, Op: repo.Op(op)}
	name, spec.Arch = cutArch(name)
	parsed, err := repo.ParseName(name)
	if err != nil {
		return Spec{}, errors.New("want pkg, pkg.arch, pkg=version, a pattern, a /path or a capability")
	}
	spec.Name = parsed
	if op == "" {
		return spec, nil
	}
	evr, err := repo.ParseEVR(version)
	if err != nil {
		return Spec{}, errors.New("want a version as [epoch:]version[-release]")
	}
	spec.EVR = evr
	return spec, nil
}

// capability returns what a package's own identity must overlap.
func (s Spec) capability() repo.Capability {
	if s.Kind == NameSpec {
		return repo.Capability{Name: string(s.Name), Op: s.Op, EVR: s.EVR}
	}
	return s.Capability
}

// Matches reports whether the spec names p by name, version and architecture,
// or by what it provides.
func (s Spec) Matches(p *Package) bool {
	if s.Arch != "" && s.Arch != p.Arch {
		return false
	}
	switch s.Kind {
	case NameSpec:
		return s.capability().Overlaps(repo.Capability{Name: string(p.Name), Op: repo.Equal, EVR: p.EVR})
	case GlobSpec:
		ok, err := path.Match(s.Pattern, string(p.Name))
		return err == nil && ok
	}
	return p.provides(s.Capability)
}

// provides reports whether p provides something in c's range, itself and its
// primary paths included.
func (p *Package) provides(c repo.Capability) bool {
	if c.Overlaps(repo.Capability{Name: string(p.Name), Op: repo.Equal, EVR: p.EVR}) {
		return true
	}
	for _, provided := range p.Provides {
		if c.Overlaps(provided) {
			return true
		}
	}
	if c.IsPath() {
		for _, path := range p.Paths {
			if path == c.Name {
				return true
			}
		}
	}
	return false
}
