package rpmfile

import (
	"strings"

	"stork/repo"
)

// readRecord makes everything of the record that the header alone decides.
func readRecord(h *header, f *files) (*repo.Record, error) {
	if h.int(tagSourcePackage) != 0 || !h.has(tagSourceRPM) {
		return nil, unsupported("it is a source package: build it and publish what comes out")
	}
	r := &repo.Record{
		BuildTime: h.int(tagBuildTime), Description: prose(h.text(tagDescription)), Epoch: uint32(h.int(tagEpoch)),
		Format: repo.RecordFormat, InstalledSize: f.installedSize(), License: line(h.text(tagLicense)),
		Release: h.name(tagRelease), Source: line(h.text(tagSourceRPM)), Summary: line(h.text(tagSummary)),
		URL: line(h.text(tagURL)), Vendor: line(h.text(tagVendor)), Version: h.name(tagVersion),
	}
	var err error
	if r.Name, err = repo.ParseName(h.name(tagName)); err != nil {
		h.fail(malformed("%w", err))
	}
	if r.Arch, err = repo.ParseArch(h.name(tagArch)); err != nil {
		h.fail(malformed("%w", err))
	}
	if _, err := repo.ParseEVR(r.Version + "-" + r.Release); err != nil {
		h.fail(malformed("%w", err))
	}
	if h.err != nil {
		return nil, h.err
	}
	requirements(h, r)
	r.Provides = provides(h, r)
	r.Conflicts = requirementList(h, tagConflictName, tagConflictFlags, tagConflictVersion)
	r.Obsoletes = capabilityList(h, tagObsoleteName, tagObsoleteFlags, tagObsoleteVersion)
	r.Suggests = requirementList(h, tagSuggestName, tagSuggestFlags, tagSuggestVersion)
	r.Supplements = requirementList(h, tagSupplementName, tagSupplementFlags, tagSupplementVersion)
	r.Enhances = requirementList(h, tagEnhanceName, tagEnhanceFlags, tagEnhanceVersion)
	r.Scriptlets = scriptlets(h)
	r.Triggers = triggers(h)
	r.FileTriggers = fileTriggers(h)
	for i := range f.list {
		if repo.IsPrimaryPath(f.list[i].Path) {
			r.Paths = append(r.Paths, f.list[i].Path)
		}
	}
	return r, h.err
}

// prose makes text for people printable: what is no UTF-8 becomes U+FFFD,
// control characters, which a terminal would obey, go.
func prose(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && (r < ' ' || r >= 0x7f && r < 0xa0) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\ufffd"))
}

// line is prose on one line.
func line(s string) string { return strings.Join(strings.Fields(prose(s)), " ") }
