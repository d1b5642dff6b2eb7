// Package testbed runs many hosts and guests on one machine, for the demo,
// tests and benchmarks: a repository, a publisher named alice, nests, and
// guests of each nest. It stands on the public commands of Stork only.
//
// Start with [Up]; [Open] finds a running one. A program that uses Up must
// begin its main, before anything else, with
//
//	if box.IsChild(os.Args) {
//		os.Exit(box.RunChild(os.Args))
//	}
//
// for the testbed starts the running program again inside its namespaces.
//
// # How it hangs together
//
// Everything is a tree of boxes: the hub, in it the machines (repository,
// publisher, nests), in each nest's machine its guests. A box is a process
// that is number 1 of its own PID namespace, and has mount, network, UTS and
// IPC namespaces too. Commands run as its children. Nothing has a name
// outside: when the hub's process ends, however it ends, the kernel ends
// every process of the testbed, and with the last of them go all mounts,
// links and namespaces. So Down has one process to end.
//
// Machines see the host's files. Guests do not: their root is an overlay with
// the host's root as the lower layer, under a layer of whiteouts that hides
// what is secret (package box, Mask), and they have a user namespace of their
// own.
//
// Without root, the hub has a user namespace with one user, and the same is
// built inside it.
package testbed
