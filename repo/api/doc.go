// Package api is what a repository and those who upload to it say to each
// other: routes and wire types, declared once and used by both sides. What
// the repository serves to readers is static files: see repo/layout.go.
//
// An upload is one new version of one delegated role, with everything that
// it names:
//
//	POST /upload/{role}                    UploadRequest → 201 UploadSession
//	POST /upload/{role}/{session}/files    a tar stream → UploadProgress; as often as needed, also in parallel
//	POST /upload/{role}/{session}/commit   no body → UploadResult
//
// The repository verifies the role before it accepts a byte more, and shows
// nothing of an upload to readers before the commit. Errors are nestd/api.Error.
package api
