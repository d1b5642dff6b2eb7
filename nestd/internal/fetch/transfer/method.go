package transfer

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"

	"stork/repo"
)

// Why a blob can not be brought. An error of this package that wraps none of
// these, fs.ErrNotExist or a [*SpoolError] says that nobody can be reached.
var (
	// ErrMismatch says that what was sent is not what the digest names.
	ErrMismatch = errors.New("the content does not match its digest")
	// ErrStalled says that there was too little progress for too long.
	ErrStalled = errors.New("no progress")
)

// ErrAbsent says that whoever was asked has no such blob.
var ErrAbsent = fs.ErrNotExist

// SpoolError is a failure of this host's disk, which no method can mend.
type SpoolError struct{ Err error }

// Error implements error.
func (e *SpoolError) Error() string { return "cannot write spool file: " + e.Err.Error() }

// Unwrap returns the cause, such as ENOSPC.
func (e *SpoolError) Unwrap() error { return e.Err }

// Method is a way to get the bytes of blobs. Fetch is called from several
// goroutines, for different blobs.
type Method interface {
	// Name is what logs, ledgers and the configuration call the method.
	Name() string

	// Fetch fills the job's blob, together with whatever other methods do to
	// it meanwhile, and returns nil when nothing is missing any more (see
	// [Blob.Done]), or the reason why this method can do no more. It tries
	// again by itself what is worth trying again, and need not watch its own
	// progress: who makes none is joined by the next method. When ctx ends it
	// returns soon, and touches the blob no more after that.
	Fetch(ctx context.Context, job *Job) error
}

// Order says what is wanted, and what is known of where it is.
type Order struct {
	Object repo.Object

	// Places are addresses of the blob itself, best first. What they look like
	// is between those who configure them and the methods that know them.
	Places []string

	// Pieces are the hashes of the blob's pieces, if they are known: they
	// were verified against a signed digest before. With them a swarm can be
	// joined, and damage is found before the blob is whole.
	Pieces *Pieces

	Priority Priority

	// Scatter says that others fetch the same blob, perhaps at the same moment,
	// and that there is a swarm: claims are single pieces, anywhere.
	Scatter bool
}

// Priority orders those who want something.
type Priority int

// The priorities.
const (
	Background  Priority = iota // nobody waits
	Interactive                 // a person waits
)

// Source is where bytes come from.
type Source struct {
	Method  string `json:"method"`  // its name
	Address string `json:"address"` // of the server, peer or swarm; empty: unknown
}

// Job is the work of one method on one blob.
type Job struct {
	Order
	Blob *Blob
	Log  *slog.Logger

	pace  func(ctx context.Context, n int) error
	peers func(n int)
}

// Pace waits until n more bytes may be received from the network, n being at
// most [PaceBytes]. A method calls it for all that it reads of a blob, before
// or after; one whose library takes a rate.Limiter is given [Limits.Down].
func (j *Job) Pace(ctx context.Context, n int) error {
	return j.pace(ctx, n)
}

// PaceBytes is the most that [Job.Pace] is asked for at once.
const PaceBytes = 256 << 10

// Peers reports from how many servers or peers the method is receiving now.
func (j *Job) Peers(n int) {
	j.peers(n)
}
