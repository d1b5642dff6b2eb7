// Package confine runs the children of nestd that touch what is hostile, and
// lets them give up what they do not need. The parent's side is [Child]: an
// unprivileged user without groups and capabilities, namespaces of its own,
// no descriptors but those it is given, dead with its parent. The child's
// side is the first thing the child does: [CloseInherited], [SetLimits], then
// [Landlock] (the fetcher) or [Seal] (the unpacker).
//
// It is the only importer of go-landlock.
package confine
