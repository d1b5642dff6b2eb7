package publish

import (
	"context"
	"net/http"
	"path/filepath"
	"time"

	"stork/nestd/api"
	"stork/repo"
	"stork/repo/durable"
	"stork/signing"
	"stork/signing/author"
)

// Publisher publishes under one identity to one repository. It is used by one
// goroutine at a time; other processes are kept out by a lock.
type Publisher struct {
	Dir        string // where the last-signed state of every repository and role is kept
	Disk       durable.Disk
	Now        func() time.Time // nil: time.Now
	Identity   *author.Identity // the publisher's; see PublishPolicy for owners'
	Repository api.RepositoryPin
	HTTP       *http.Client // nil: one without a time limit
}

// Phase is what a long step is doing.
type Phase string

// The phases of publishing, in order. Reading counts packages, uploading
// bytes.
const (
	Reading   Phase = "reading"
	Uploading Phase = "uploading"
)

// Progress says how far a phase is. Functions that receive it are never
// called twice at once.
type Progress struct {
	Phase Phase
	Done  int64
	Total int64
}

// Added is a package that a plan publishes.
type Added struct {
	repo.NEVRA
	ID       repo.Digest // the record's digest
	BlobSize int64       // bytes
	Path     string      // the package file
}

func (p *Publisher) now() time.Time {
	if p.Now == nil {
		return time.Now()
	}
	return p.Now()
}

func (p *Publisher) web() *web {
	client := p.HTTP
	if client == nil {
		client = &http.Client{}
	}
	return &web{client: client, base: p.Repository.URL}
}

// follow brings the repository's present state, verified from its pin.
func (p *Publisher) follow(ctx context.Context) (*signing.Snapshot, error) {
	client, err := signing.Open(signing.Options{
		Dir: filepath.Join(p.Dir, p.Repository.Root.Hex(), "trust"), Root: p.Repository.Root, Disk: p.Disk, Now: p.Now,
	})
	if err != nil {
		return nil, err
	}
	return client.Refresh(ctx, p.web())
}
