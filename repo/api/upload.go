package api

import (
	"stork/repo"
)

// UploadRoute is where uploads begin.
const UploadRoute = "/upload/"

// Limits of one upload. A server answers code too-large beyond them.
const (
	MaxObjects       = 4_000_000 // in UploadRequest.Objects
	MaxUploadRequest = 512 << 20 // bytes of UploadRequest, after decompression
)

// Kind says in which part of the repository an object is served.
type Kind string

// The kinds of objects.
const (
	Data Kind = "data" // index documents, records, file lists, policies: repo.DataPath
	Blob Kind = "blob" // package files: repo.BlobPath
)

// Object declares one object of an upload.
type Object struct {
	Digest repo.Digest `json:"digest"`
	Kind   Kind        `json:"kind"`
	Size   int64       `json:"size"` // bytes
}

// UploadRequest opens a session, or finds the one that was opened with the
// same role metadata. The request may be sent with Content-Encoding gzip.
type UploadRequest struct {
	// Objects is what the new version of the role names, directly or through
	// other documents, and the last version did not.
	Objects []Object `json:"objects"`
	// Role is the signed role metadata, TUF JSON. Its version must be the one
	// after the role's current version.
	Role []byte `json:"role"`
}

// UploadSession answers an UploadRequest.
type UploadSession struct {
	Missing []repo.Digest `json:"missing"` // the objects that the repository does not have yet
	Session string        `json:"session"` // letters and digits, to stand in a path
}

// UploadProgress answers a tar stream, each of whose members is a regular
// file named by the 64 hexadecimal digits of a declared object's digest, and
// as large as declared.
type UploadProgress struct {
	Missing []repo.Digest `json:"missing"` // still
}

// UploadResult answers a commit: what readers see from now on.
type UploadResult struct {
	Snapshot int64 `json:"snapshot"` // the snapshot's version
	Version  int64 `json:"version"`  // the role's version
}

// UploadPath is where an upload of a role begins.
func UploadPath(role repo.Role) string { return UploadRoute + string(role) }

// FilesPath is where the objects of an upload go.
func FilesPath(role repo.Role, session string) string {
	return UploadPath(role) + "/" + session + "/files"
}

// CommitPath is where an upload ends.
func CommitPath(role repo.Role, session string) string {
	return UploadPath(role) + "/" + session + "/commit"
}
