package inventory

import "stork/repo"

// Features returns the rpmlib(...) capabilities that Stork's installer has,
// in the versions in which rpm got them (rpm's lib/rpmds.c).
func Features() []repo.Capability {
	var out []repo.Capability
	for _, f := range []struct{ name, version, release string }{
		{"VersionedDependencies", "3.0.3", "1"},
		{"CompressedFileNames", "3.0.4", "1"},
		{"PayloadIsBzip2", "3.0.5", "1"},
		{"PayloadFilesHavePrefix", "4.0", "1"},
		{"ExplicitPackageProvide", "4.0", "1"},
		{"HeaderLoadSortsTags", "4.0.1", "1"},
		{"ScriptletInterpreterArgs", "4.0.3", "1"},
		{"PartialHardlinkSets", "4.0.4", "1"},
		{"ConcurrentAccess", "4.1", "1"},
		{"BuiltinLuaScripts", "4.2.2", "1"},
		{"PayloadIsLzma", "4.4.6", "1"},
		{"FileDigests", "4.6.0", "1"},
		{"FileCaps", "4.6.1", "1"},
		{"ScriptletExpansion", "4.9.0", "1"},
		{"TildeInVersions", "4.10.0", "1"},
		{"RichDependencies", "4.12.0", "1"},
		{"LargeFiles", "4.12.0", "1"},
		{"CaretInVersions", "4.15.0", "1"},
		{"PayloadIsXz", "5.2", "1"},
		{"PayloadIsZstd", "5.4.18", "1"},
	} {
		out = append(out, repo.Capability{
			Name: "rpmlib(" + f.name + ")", Op: repo.Equal, EVR: repo.EVR{Version: f.version, Release: f.release},
		})
	}
	return out
}

func (i *Inventory) features(name string) []repo.Capability {
	var out []repo.Capability
	for _, f := range i.Features {
		if f.Name == name {
			out = append(out, f)
		}
	}
	return out
}
