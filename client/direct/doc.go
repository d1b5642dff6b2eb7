// Package direct lets a guest without a nest install for itself: it fetches
// from the repository over HTTP, unpacks in a sandbox, and keeps nothing that
// others share. It is slower than a nest and makes the same checks.
//
// Start with [Open]; the result answers what client.Nest answers.
package direct
