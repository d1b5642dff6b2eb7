// Package guest holds the commands of a guest (install, remove, …), one in a
// file.
//
// [Commands] are part of the whole program (stork/client/cli). [Run] is a
// program of its own: it installs, upgrades and removes where nothing needs to
// be verified anew, and so carries neither TUF nor unpackers nor publishers'
// tools, whose start would take longer than most installs; what it can not do
// it leaves, with nothing changed, to the whole program beside it.
package guest
