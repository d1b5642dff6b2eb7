// Package transfer brings blobs to the spool of the fetcher: by their digest
// and size, over several methods that fill one file at once.
//
// A [Blob] is the file. It knows which bytes are there, who sent them and who
// is about to send more, and writes that down beside them, so that a process
// which is killed goes on where it was. A [Method] is a way to get bytes; it
// knows servers or peers and nothing of other methods. The [Scheduler] lets
// methods work on a blob in the configured order: the next one joins when one
// stops making progress, and when the blob is whole its SHA-256 is checked.
// Nothing that a method does, or a server sends, can make a wrong blob pass.
//
// Everything here runs in the fetcher's unprivileged process. Start with
// [NewScheduler]; who writes a method, with [Method].
package transfer
