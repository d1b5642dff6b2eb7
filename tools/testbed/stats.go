package testbed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"

	"stork/client"
	"stork/tools/testbed/box"
)

// Stats reads the figures of the repository, the nests and the guests.
func (t *Testbed) Stats(ctx context.Context) (*Stats, error) {
	s := &Stats{Nests: map[string]NestStats{}, Guests: map[string]GuestStats{}}
	answer, err := t.ask(ctx, repoName, box.Request{Get: t.state.URL + "/v1/stats"})
	if err != nil {
		return nil, fmt.Errorf("cannot read the repository's figures: %w", err)
	}
	if err := json.Unmarshal(answer.Body, &s.Repo); err != nil {
		return nil, fmt.Errorf("cannot read the repository's figures: %w", err)
	}
	for _, nest := range t.state.Nests {
		if s.Nests[nest], err = t.nestStats(ctx, nest); err != nil {
			return nil, fmt.Errorf("cannot read the figures of nest %s: %w", nest, err)
		}
	}
	for guest := range t.state.Guests {
		if s.Guests[guest], err = t.guestStats(ctx, guest); err != nil {
			return nil, fmt.Errorf("cannot read the figures of guest %s: %w", guest, err)
		}
	}
	return s, nil
}

func (t *Testbed) nestStats(ctx context.Context, nest string) (NestStats, error) {
	operator := client.DialOperator(t.OperatorSocket(nest))
	defer operator.Close()
	status, err := operator.Status(ctx)
	if err != nil {
		return NestStats{}, err
	}
	store, err := operator.StoreStats(ctx)
	if err != nil {
		return NestStats{}, err
	}
	return NestStats{BytesFetched: status.BytesFetched, StoreBytes: store.Bytes, Objects: store.Objects, Layers: store.Layers}, nil
}

func (t *Testbed) guestStats(ctx context.Context, guest string) (GuestStats, error) {
	answer, err := t.ask(ctx, guest, box.Request{Mounts: true})
	if err != nil {
		return GuestStats{}, err
	}
	bytes, err := allocated(t.path("guests", guest, "upper"))
	return GuestStats{PrivateBytes: bytes, Mounts: answer.Mounts - answer.AtBoot}, err
}

// allocated returns the bytes on disk of a tree, each inode once.
func allocated(dir string) (int64, error) {
	type inode struct{ dev, ino uint64 }
	seen := map[inode]bool{}
	var total int64
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed meanwhile
		}
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return nil // the same
		}
		if id := (inode{st.Dev, st.Ino}); !seen[id] {
			seen[id] = true
			total += st.Blocks * 512
		}
		return nil
	})
	return total, err
}
