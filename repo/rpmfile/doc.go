// Package rpmfile reads RPM packages of format 3, 4 and 6 from a stream: what
// a package declares becomes a [repo.Record], what it carries a
// [repo.FileList], and its payload can be read entry by entry on the way.
// Publisher, repository and nest all use it, so one package has one record.
//
// Start with [Build], or with [Walk] to receive the files' content too.
//
// Every byte is hostile. Sizes and counts are checked before anything is
// allocated for them, the payload must be exactly what the header declares,
// and no input makes the package panic. OpenPGP signatures inside packages
// are not looked at: a package is trusted because its record is signed.
//
// Sources: the RPM package format (rpm.org, "RPM V4 Package format", "RPM V6
// Package format"), rpm-scriptlets(7), cpio(5) and rpm's lib/rpmfi.c for the
// payload of packages with files over 4 GiB.
package rpmfile
