// Package channel carries the API of the nest over one serial port, for
// guests that are virtual machines: the kernel of a guest has no unix socket
// in common with the host's, but QEMU gives it a port (virtio-serial) whose
// other end is one.
//
// A port is one stream of bytes in each direction, shared by all processes of
// the guest in turn. Nobody tells either end when the process at the other has
// changed: a process that is killed may leave half a frame on its way there,
// and unread frames on their way back. So frames can be told apart wherever
// the stream is cut (docs/formats.md, "The channel of a virtual machine"),
// and each names the session, a random number, that it belongs to. The next
// hello ends the session before.
//
// In a session there are connections, as many at once as the guest opens, each
// with a window, so that one that nobody reads holds up no other. What they
// carry is HTTP, as everywhere else.
//
// Start with [Open] in the guest, and [Serve] on the host. Neither trusts the
// other's frames: they are bounded, and the fuzz targets are in frame_test.go.
package channel
