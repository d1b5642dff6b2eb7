// Package author makes what stork/signing verifies. It is the only code that
// touches private keys.
//
// Publishers and owners start with [CreateIdentity] and [Identity.SignRole]
// and hand [EncodeBundle]'s file to the repository's operator, who starts
// with [InitRepository] and [Repository.AddIdentity]. A running repository
// starts with [OpenRepository], which needs the online keys only, and uses
// [Repository.Publish] and [Repository.Renew].
package author

import "time"

// How long what is signed is valid, unless the caller says otherwise.
const (
	day = 24 * time.Hour

	RootLifetime        = 365 * day
	KeyDocumentLifetime = 365 * day
	TargetsLifetime     = 183 * day
	RoleLifetime        = 90 * day
	SnapshotLifetime    = 7 * day
	TimestampLifetime   = 1 * day

	// RenewInterval is the age at which Renew replaces the timestamp.
	RenewInterval = time.Hour
)
