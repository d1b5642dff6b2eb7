package fetch

import (
	"stork/nestd/internal/fetch/transfer"
	"stork/repo"
)

// What daemon and child say to each other: HTTP over a unix socket, one route
// for small files and one for blobs.

const (
	getRoute  = "/get"
	blobRoute = "/blob"

	seedsRoute = "/seeds"
)

// getRequest asks for a small file. The answer is the file with status 200;
// 304 if it still has that ETag; 404 if the server says that there is none;
// 413 if it is larger than Max; else 502 and a message.
type getRequest struct {
	URL  string `json:"url"`
	Max  int64  `json:"max"`            // bytes, after decompression
	ETag string `json:"etag,omitempty"` // what the daemon has
	Zstd bool   `json:"zstd,omitempty"` // the file is a zstd stream; the answer is what is in it

	// Of a file that never changes: its digest, by which peers may have it, and
	// where it is too when URL does not answer.
	Digest  *repo.Digest `json:"digest,omitempty"`
	Mirrors []string     `json:"mirrors,omitempty"`
}

// blobRequest asks for a file in the spool, named by its digest in
// hexadecimal. The answer is a stream of blobEvents.
type blobRequest struct {
	Object   repo.Object       `json:"object"`
	Places   []string          `json:"places"` // addresses, best first
	Priority transfer.Priority `json:"priority"`

	// The info dictionary of the blob's swarm and where it is, if it has one.
	Info       *repo.Object `json:"info,omitempty"`
	InfoPlaces []string     `json:"info_places,omitempty"`

	// Trackers are addresses below which the trackers of swarms answer this nest.
	Trackers []string `json:"trackers,omitempty"`
}

// seedsRequest tells of files that are kept for others, all of them or those
// that came last.
type seedsRequest struct {
	Trackers []string      `json:"trackers"`
	Files    []repo.Object `json:"files"`
}

// blobEvent is one line. The last one has Result set.
type blobEvent struct {
	Done    int64            `json:"done"`    // bytes of the blob in the spool
	Fetched int64            `json:"fetched"` // bytes that came over the network for this transfer
	Peers   int              `json:"peers"`   // servers and peers that are sending
	Sources []transfer.Entry `json:"sources,omitempty"`
	Result  blobResult       `json:"result,omitempty"`
	Message string           `json:"message,omitempty"`
	Info    []byte           `json:"info,omitempty"` // in the last one: the info dictionary, if it is known
}

// blobResult is how a blob request ended.
type blobResult string

const (
	resultOK          blobResult = "ok"
	resultAbsent      blobResult = "absent"
	resultUnreachable blobResult = "unreachable"
	resultMismatch    blobResult = "mismatch" // whole, but not what the digest says
	resultNoSpace     blobResult = "no-space"
	resultFailed      blobResult = "failed"
)

// maxRequest bounds a request to the child, and maxLine a line from it, in
// bytes.
const (
	maxRequest = 16 << 20 // a seedsRequest of 100 000 files
	maxLine    = 512 << 10
)
