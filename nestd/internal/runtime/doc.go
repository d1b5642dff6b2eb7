// Package runtime says what each runtime, of containers or virtual machines, has to be told about a
// guest: how the guest's directory gets to /run/stork, what lets the guest
// place mounts, and what brings the mounts back when it starts again. It
// only says so: everything in it is text, made from the guest's name and
// directory. Start with [For].
//
// No runtime needs mount propagation: the nest mounts in the namespace of the
// guest itself (package attach), so a package that is installed while the
// guest runs is there at once, through the directory that was bound when it
// started. The other way round, a guest with the host's users must not share
// propagation with the host, which no runtime does unless it is asked to.
package runtime
