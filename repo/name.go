package repo

import (
	"fmt"
	"runtime"
	"strings"
)

// Name is a package's name, such as "nginx".
type Name string

// Arch is the architecture a package was built for, as RPM spells it:
// "x86_64", "noarch".
type Arch string

// NoArch is the architecture of packages that run anywhere.
const NoArch Arch = "noarch"

// HostArch returns the architecture that this program was built for.
func HostArch() Arch {
	switch runtime.GOARCH {
	case "amd64":
		return "x86_64"
	case "arm64":
		return "aarch64"
	case "386":
		return "i686"
	}
	return Arch(runtime.GOARCH)
}

// Publisher is the name under which a key holder publishes: lower-case
// letters, digits and inner hyphens, at most 32 characters. It is also the
// name of an owner; which of the two is meant, a [Role] says.
type Publisher string

// The longest names, in bytes.
const (
	maxName      = 255
	maxArch      = 32
	maxPublisher = 32
)

// made reports whether s has 1 to max bytes, all of them lower-case letters,
// digits or among extra. Patterns are not regular expressions because every
// start of every program would pay for compiling them.
func made(s string, max int, upper bool, extra string) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', upper && c >= 'A' && c <= 'Z':
		case strings.IndexByte(extra, c) >= 0:
		default:
			return false
		}
	}
	return s != "" && len(s) <= max
}

// ParseName reads a package name.
func ParseName(s string) (Name, error) {
	if !made(s, maxName, true, "._+~^-") || strings.IndexByte(".+~^-", s[0]) >= 0 {
		return "", fmt.Errorf("cannot parse package name %q: want letters, digits and . _ + ~ ^ -, at most 255", s)
	}
	return Name(s), nil
}

// ParseArch reads an architecture.
func ParseArch(s string) (Arch, error) {
	if !made(s, maxArch, false, "_") {
		return "", fmt.Errorf("cannot parse architecture %q", s)
	}
	return Arch(s), nil
}

// ParsePublisher reads a publisher's or owner's name.
func ParsePublisher(s string) (Publisher, error) {
	if !made(s, maxPublisher, false, "-") || s[0] == '-' || s[len(s)-1] == '-' {
		return "", fmt.Errorf("cannot parse publisher name %q: want lower-case letters, digits and inner hyphens, at most 32", s)
	}
	return Publisher(s), nil
}

// UnmarshalText implements [encoding.TextUnmarshaler], so that a decoded name
// is a valid one.
func (n *Name) UnmarshalText(b []byte) (err error) { *n, err = ParseName(string(b)); return err }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (a *Arch) UnmarshalText(b []byte) (err error) { *a, err = ParseArch(string(b)); return err }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (p *Publisher) UnmarshalText(b []byte) (err error) {
	*p, err = ParsePublisher(string(b))
	return err
}

// Role is the TUF delegated role of a publisher ("p-alice", signs indexes) or
// of an owner ("o-alice", signs policies and manifests). They are apart so
// that a stolen build key can not rewrite policy.
type Role string

// PublisherRole returns the role that signs p's index.
func (p Publisher) PublisherRole() Role { return Role("p-" + string(p)) }

// OwnerRole returns the role that signs p's policy and manifest.
func (p Publisher) OwnerRole() Role { return Role("o-" + string(p)) }

// ParseRole reads a delegated role's name.
func ParseRole(s string) (Role, error) {
	if len(s) < 3 || (s[:2] != "p-" && s[:2] != "o-") {
		return "", fmt.Errorf("cannot parse role %q: want p-NAME or o-NAME", s)
	}
	if _, err := ParsePublisher(s[2:]); err != nil {
		return "", fmt.Errorf("cannot parse role %q: %w", s, err)
	}
	return Role(s), nil
}

// Publisher returns whose role it is.
func (r Role) Publisher() Publisher { return Publisher(r[2:]) }

// IsOwner reports whether it is an owner's role.
func (r Role) IsOwner() bool { return r[:2] == "o-" }
