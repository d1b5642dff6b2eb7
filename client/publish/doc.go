// Package publish is the publisher's side of an upload: it reads packages,
// extends the publisher's own last-signed index, signs it and sends what the
// repository lacks. Owners' policies go the same way.
//
// Start with [Publisher.Plan], show the plan, then [Publisher.Submit].
//
// What is signed is an extension of what this machine signed last, never of
// what the repository returns: a repository that drops or changes packages
// can not have that signed. All that is kept for it lies in Publisher.Dir
// under the repository's root digest and the role:
//
//	signed.json    the role file that the repository has accepted last
//	pending.json   one that is signed and perhaps not accepted yet
//	docs/          the documents that they name, in packs (see pack.go)
//	lock           held by whoever publishes
package publish
