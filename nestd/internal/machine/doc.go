// Package machine is the host's side of a guest that is a virtual machine.
// Start with [Run], which needs root; the rest of it runs in its children.
//
// For the nest such a guest is a container like any other: a mount namespace,
// owned by a user namespace, in which the guest's directory is bound at
// /run/stork. Two processes live in it and nothing else:
//
//   - virtiofsd shares that directory with the machine. What the nest mounts
//     in the view, as it does for every guest, the machine sees at once.
//   - the relay has the other end of the machine's serial port (package
//     channel), and for each connection in it one to the guest's socket. So
//     the daemon knows the guest by its socket and by the namespaces of who
//     connects, and reads no byte of the port.
//
// Both speak to whoever is root in the machine. They have users that are
// nobody's on the host, no network, none of the host's files but programs, and
// no way to change a mount: those of the guest's directory are locked, as those
// of layers are. The relay can open no file and has no capability.
package machine
