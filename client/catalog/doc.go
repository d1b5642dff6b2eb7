// Package catalog is what a guest may install: the packages that its pins,
// its owner's trust policy and the publishers' signed indexes admit.
//
// [Open] verifies, in this order, the pinned repositories' metadata (TUF),
// the owner's role and policy, and the role and index root of every publisher
// that the policy names. [Catalog.Lookup] asks the nest for candidates, which
// are hints; [Catalog.Verify] re-reads, by digest from the signed root down,
// what the solver chose.
package catalog
