// Package trust is what a client must never forget of a repository: how far it
// has come (floors), the highest time it has seen, and what it verified last
// (memo); and the errors by which trust is refused. It knows nothing of TUF:
// whoever only recalls what was verified need not carry what verifies
// (stork/signing).
//
// Start with [Open].
package trust
