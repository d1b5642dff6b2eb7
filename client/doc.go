// Package client speaks to a nest from Go: as a guest over the guest's own
// socket ([Dial]), or as the operator over the operator's ([DialOperator]).
//
// Everything that a nest refuses comes back as an [*api.Error], so that a
// caller can tell codes apart with errors.As; a nest that can not be reached
// at all is [ErrDown]. The nest is not trusted with what is true: documents
// are checked by digest here, signatures by signing.
package client
