// Package show is how stork's commands show sizes, counts and the progress of
// long work.
package show
