// Package share makes the files of packages appear in a guest and takes them
// away again. It is the only code that changes a guest's files and mounts.
//
// Use [OpenRoot], then [MakePlan], which finds every conflict and changes
// nothing, then [Plan.Apply]. What was placed is described by [Placed], which
// the caller stores; [Restore] brings mounts back after the guest restarts,
// [Check] compares the guest with what was placed.
//
// There are four share methods behind one interface, see [Method]; a guest
// has one for all its packages. [Probe] and [Choose] pick it, [Change].Convert
// replaces it. With [Overlay] the caller also stores the [Environment] that
// the elements of a plan lead to: [Element].Environment.
package share
