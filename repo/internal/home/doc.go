// Package home is the directory of one repository on its own host: where its
// parts lie, who may write, what it is called, and which nests it knows.
//
//	DIR/tree/            the static tree that readers see (repo/layout.go)
//	DIR/online/          snapshot and timestamp keys, mode 0600
//	DIR/repository.json  identity and settings
//	DIR/nests.json       the nests that the operator approved
//	DIR/serving.json     where the server listens, while it runs
//	DIR/warm.json        the packages that nests are asked to fetch beforehand
//	DIR/uploads/         uploads that are not published yet
//	DIR/lock             held by whoever writes the tree
//
// Start with [Init] or [Open]. Whoever changes something in the tree does it
// between [Home.Lock] and [Unlock], and reads afresh after the lock is his:
// the server and the commands share one repository.
package home
