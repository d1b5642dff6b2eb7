// Package web gets blobs and small files from web servers: the repository, its
// mirrors, whatever serves plain files over HTTP.
//
// [Client] is how any server is asked. [Method] is the transfer method over
// it: ranges of a blob over several connections and from several servers at
// once, each of which may lie, drip, or be gone the next moment.
package web
