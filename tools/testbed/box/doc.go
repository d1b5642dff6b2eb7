// Package box is what runs inside the testbed's namespaces: the first process
// of the hub, of each machine and of each guest. Each listens on a unix
// socket and, asked over it, runs commands as its children and starts further
// boxes.
//
// Start with [Start] and [Client]; [IsChild] and [RunChild] are the side that
// is started. Whoever can open a box's socket commands it: the folder with
// the sockets belongs to the testbed's user alone.
package box
