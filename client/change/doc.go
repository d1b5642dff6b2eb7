// Package change turns what a user asks of a guest into a plan and carries
// it out: it solves, verifies what was chosen, asks the nest what it has, and
// hands the result to the transaction.
//
// [Guest.Plan] changes nothing and is what a dry run shows; [Guest.Execute]
// does it.
package change
