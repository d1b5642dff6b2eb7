// Package store keeps what every guest of the host shares: objects, each one
// file's content with the metadata of its inode, and layers, each the tree of
// one package made of hard links to objects.
//
//	objects/ab/<identity>[.n]   one inode each: see Identity; .1, .2 … when the
//	                            file system has no more links for the one before
//	layers/ab/<package ID>/     the tree of a package
//	layers/ab/<tree ID>/        a merged tree: what several packages have, or
//	                            what is to lie on top of other merged trees
//	staging/<name>/             one layer or merged tree in the making: tree/
//	trash/<name>/               one removal in progress
//	lock                        held by the daemon that has the store open
//
// A layer comes about in three steps, so that a crash leaves it whole or not
// at all (docs/ordering.md, N1 and N2): [Store.Stage] makes room for it;
// [Stage.Fill] takes the content of the files, hashes it against the verified
// file list, makes objects and the tree of it, and puts both on disk; then the
// caller commits its row; [Stage.Place] moves the tree to its place. Start
// with [Open], then [Store.Recover]. A merged tree goes the same way, with
// [Stage.Merge] in the place of Fill.
//
// The package knows nothing of package formats, of trust and of guests: who
// calls it has verified the list.
package store
