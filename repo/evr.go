package repo

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	rpmversion "github.com/knqyf263/go-rpm-version"
)

// EVR is an epoch, version and release, compared as RPM compares them
// (rpm-version(7)). No epoch and epoch 0 are the same. In a dependency the
// release may be missing; a package always has one.
type EVR struct {
	Epoch   uint32
	Version string
	Release string
}

// maxVersion is the longest version or release, in bytes.
const maxVersion = 128

// isVersion reports whether s is a version or a release: without ':' and '-',
// which separate the parts of an EVR.
func isVersion(s string) bool { return made(s, maxVersion, true, "._+~^") }

// ParseEVR reads "[epoch:]version[-release]".
func ParseEVR(s string) (EVR, error) {
	var evr EVR
	rest := s
	if epoch, after, ok := strings.Cut(s, ":"); ok {
		n, err := strconv.ParseUint(epoch, 10, 32)
		if err != nil {
			return EVR{}, fmt.Errorf("cannot parse version %q: bad epoch", s)
		}
		evr.Epoch, rest = uint32(n), after
	}
	version, release, hasRelease := strings.Cut(rest, "-")
	if !isVersion(version) || (hasRelease && !isVersion(release)) {
		return EVR{}, fmt.Errorf("cannot parse version %q: want [epoch:]version[-release]", s)
	}
	evr.Version, evr.Release = version, release
	return evr, nil
}

// String returns "[epoch:]version[-release]", without an epoch of 0.
func (e EVR) String() string {
	s := e.Version
	if e.Epoch != 0 {
		s = strconv.FormatUint(uint64(e.Epoch), 10) + ":" + s
	}
	if e.Release != "" {
		s += "-" + e.Release
	}
	return s
}

// Compare returns -1, 0 or +1 as RPM orders e and o.
func (e EVR) Compare(o EVR) int {
	if c := e.compareVersion(o); c != 0 {
		return c
	}
	return CompareVersion(e.Release, o.Release)
}

func (e EVR) compareVersion(o EVR) int {
	if c := cmp.Compare(e.Epoch, o.Epoch); c != 0 {
		return c
	}
	return CompareVersion(e.Version, o.Version)
}

// CompareVersion orders two version or release strings as rpmvercmp does.
func CompareVersion(a, b string) int {
	if a == b {
		return 0
	}
	return rpmversion.NewVersion(a).Compare(rpmversion.NewVersion(b))
}

// NEVRA identifies one build of a package: name, epoch, version, release and
// architecture.
type NEVRA struct {
	Name Name
	EVR  EVR
	Arch Arch
}

// String returns "name-[epoch:]version-release.arch".
func (n NEVRA) String() string {
	return string(n.Name) + "-" + n.EVR.String() + "." + string(n.Arch)
}
