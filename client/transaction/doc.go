// Package transaction changes what is installed in a guest, so that a crash
// at any moment leaves the old set of packages or the new one.
//
// Use [Open], then [Guest.Run]. Open takes the guest's lock and finishes or
// undoes what an earlier command left behind (docs/ordering.md, rules G1 to
// G5).
package transaction
