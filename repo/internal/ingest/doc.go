// Package ingest takes uploads into a repository: it verifies the role that
// a publisher or owner signed, collects what the role names, rebuilds every
// package's record from its blob and the index from its entries, compares,
// and publishes all of it or nothing.
//
// An upload lives in a session, a directory below uploads/ named by the
// digest of the role file, so that one who lost the connection, or whose
// server was restarted, finds it again. Nothing of it is in the tree before
// the commit, which follows docs/ordering.md, P1 to P4:
//
//	verify      no lock; hours may pass; packages' frames are made on the way
//	lock        one writer at a time
//	mark        uploads/ID/placing.json says that what follows has begun
//	link        every object from the session into the tree, and what was made of them
//	sync        P1: a few files by fsync, many by one syncfs
//	publish     P2, P3: role, snapshot, timestamp
//	clear       the older pack and the session go
//
// [Ingest.Recover] finds a mark that a crash left: if the role is published,
// it clears; if not, it takes out of the tree what is the same file there as
// in the session. That needs no list: links share an inode.
//
// Start with [New], [Ingest.Recover], [Ingest.Open].
package ingest
