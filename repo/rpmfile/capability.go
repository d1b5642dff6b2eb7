package rpmfile

import (
	"slices"
	"strings"

	"stork/repo"
)

// dependency is one row of name, flags and version.
type dependency struct {
	name, version string
	flags         int64
}

// dependencies reads one kind of dependency.
func dependencies(h *header, names, flags, versions int) []dependency {
	name := h.names(names)
	flag := column(h, flags, h.ints(flags), len(name), true)
	version := column(h, versions, h.names(versions), len(name), true)
	all := make([]dependency, len(name))
	for i := range name {
		all[i] = dependency{name[i], version[i], flag[i]}
	}
	return all
}

// text returns the text form: "name", "name op version", or a rich
// dependency as it is.
func (d dependency) text() string {
	op := repo.Any
	switch d.flags & (senseLess | senseGreater | senseEqual) {
	case senseLess:
		op = repo.Less
	case senseLess | senseEqual:
		op = repo.LessEqual
	case senseEqual:
		op = repo.Equal
	case senseGreater | senseEqual:
		op = repo.GreaterEqual
	case senseGreater:
		op = repo.Greater
	case senseLess | senseGreater:
		op = repo.NotEqual
	}
	if op == repo.Any || d.version == "" || strings.HasPrefix(d.name, "(") {
		return d.name
	}
	return d.name + " " + string(op) + " " + d.version
}

// isPre reports whether a required package must be there before the
// package's own install scriptlets run, as isInstallPreReq and
// isLegacyPreReq in rpm decide it. An interpreter is, unless it is that of a
// removal or verify scriptlet only.
func (d dependency) isPre() bool {
	const install = sensePreReq | senseScriptPre | senseScriptPost | sensePreTrans | sensePostTrans
	const other = senseScriptPreUn | senseScriptPostUn | senseScriptVerify
	return d.flags&install != 0 || d.flags&senseInterp != 0 && d.flags&other == 0
}

// rpmlibFeatures are the features of rpm that a package may ask for and that
// Stork has. ScriptletExpansion is not among them: macros are rpm's own.
var rpmlibFeatures = map[string]bool{
	"BuiltinLuaScripts": true, "CaretInVersions": true, "CompressedFileNames": true, "ConcurrentAccess": true,
	"ExplicitPackageProvide": true, "FileCaps": true, "FileDigests": true, "HeaderLoadSortsTags": true,
	"LargeFiles": true, "PartialHardlinkSets": true, "PayloadFilesHavePrefix": true, "PayloadIsBzip2": true,
	"PayloadIsLzma": true, "PayloadIsXz": true, "PayloadIsZstd": true, "RichDependencies": true,
	"ScriptletInterpreterArgs": true, "TildeInVersions": true, "VersionedDependencies": true,
}

// rpmlib returns the feature that a requirement names, if it names one.
func (d dependency) rpmlib() (string, bool) {
	name, ok := strings.CutPrefix(d.name, "rpmlib(")
	if !ok && d.flags&senseRPMLib == 0 {
		return "", false
	}
	return strings.TrimSuffix(name, ")"), true
}

// requirements reads what the package requires, sorted into its lists. A
// requirement that may be missing is a recommendation.
func requirements(h *header, r *repo.Record) {
	var plain, pre, hints []string
	for _, d := range dependencies(h, tagRequireName, tagRequireFlags, tagRequireVersion) {
		if feature, ok := d.rpmlib(); ok {
			if !rpmlibFeatures[feature] {
				h.fail(unsupported("it needs the rpm feature %q", feature))
			}
			continue
		}
		text := requirement(h, d)
		switch {
		case d.flags&senseMissingOK != 0:
			hints = append(hints, text)
		case d.isPre():
			pre = append(pre, text)
		default:
			plain = append(plain, text)
		}
	}
	r.RequiresPre = sorted(pre)
	r.Requires = slices.DeleteFunc(sorted(plain), func(s string) bool {
		_, found := slices.BinarySearch(r.RequiresPre, s)
		return found
	})
	if len(r.Requires) == 0 {
		r.Requires = nil
	}
	for _, d := range dependencies(h, tagRecommendName, tagRecommendFlags, tagRecommendVersion) {
		hints = append(hints, requirement(h, d))
	}
	r.Recommends = sorted(hints)
}

// requirement returns the text of d, and fails if that is no requirement.
func requirement(h *header, d dependency) string {
	text := d.text()
	parsed, err := repo.ParseRequirement(text)
	if err != nil {
		h.fail(malformed("%w", err))
		return text
	}
	if parsed.Op == "" {
		return parsed.Capability.String() // without an epoch of 0
	}
	return text
}

// requirementList reads one kind of requirement, sorted.
func requirementList(h *header, names, flags, versions int) []string {
	var list []string
	for _, d := range dependencies(h, names, flags, versions) {
		list = append(list, requirement(h, d))
	}
	return sorted(list)
}

// capabilityList reads one kind of capability, sorted. Rich dependencies are
// not allowed in it.
func capabilityList(h *header, names, flags, versions int) []repo.Capability {
	var list []repo.Capability
	for _, d := range dependencies(h, names, flags, versions) {
		c, err := repo.ParseCapability(d.text())
		if err != nil {
			h.fail(malformed("%w", err))
			return nil
		}
		list = append(list, c)
	}
	return sortedCapabilities(list)
}

func sortedCapabilities(list []repo.Capability) []repo.Capability {
	slices.SortFunc(list, func(a, b repo.Capability) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(list)
}

// sorted sorts a list and removes what is twice; an empty list is nil.
func sorted(list []string) []string {
	slices.Sort(list)
	return slices.Compact(list)
}

// provides reads what the package provides; every package provides itself,
// and old ones do not say so.
func provides(h *header, r *repo.Record) []repo.Capability {
	list := capabilityList(h, tagProvideName, tagProvideFlags, tagProvideVersion)
	self := repo.Capability{Name: string(r.Name), Op: repo.Equal, EVR: r.EVR()}
	return sortedCapabilities(append(list, self))
}
