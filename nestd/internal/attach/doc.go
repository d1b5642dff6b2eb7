// Package attach mounts layers of the store in guests' views. It is the only
// code of the nest that enters a guest's namespaces.
//
// Start with [Open], and [PeerOf] for each connection; then [Attacher.Attach],
// and [Attacher.Place] for guests that may not mount.
//
// What a guest gets is a clone of a layer's directory that is read-only and
// stays so: it is cloned from a mount namespace whose copy, made together with
// a user namespace, has locked the flags (mount_namespaces(7), "Restrictions
// on mount namespaces"), so that not even root of a guest in the host's own
// user namespace can clear them. The clone is idmapped with the guest's user
// namespace, so that the store's root is the guest's root.
//
// Everything that a guest says or holds is hostile: its paths are resolved
// with RESOLVE_IN_ROOT and compared by inode with the directory that the nest
// made; after that only descriptors are used.
package attach
