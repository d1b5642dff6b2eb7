package testbed

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

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

// RepoMachine is the name of the machine that the repository runs on.
const RepoMachine = repoName

// Link reads the counters of a machine's link: of a nest, or RepoMachine.
func (t *Testbed) Link(ctx context.Context, machine string) (LinkStats, error) {
	var out bytes.Buffer
	result, err := t.Exec(ctx, machine, Command{Args: []string{"cat", "/proc/self/net/dev"}, Stdout: &out})
	if err == nil && result.Status != 0 {
		err = fmt.Errorf("status %d", result.Status)
	}
	if err != nil {
		return LinkStats{}, fmt.Errorf("cannot read the link of %s: %w", machine, err)
	}
	return parseLink(out.String())
}

// parseLink reads /proc/net/dev (proc_pid_net(5)): the first number of an
// interface is bytes received, the ninth bytes sent.
func parseLink(text string) (s LinkStats, err error) {
	for line := range strings.Lines(text) {
		name, numbers, _ := strings.Cut(line, ":")
		fields := strings.Fields(numbers)
		if strings.TrimSpace(name) != "eth0" || len(fields) < 9 {
			continue
		}
		received, err := strconv.ParseInt(fields[0], 10, 64)
		sent, sentErr := strconv.ParseInt(fields[8], 10, 64)
		return LinkStats{Received: received, Sent: sent}, errors.Join(err, sentErr)
	}
	return s, errors.New("there is no eth0 in /proc/net/dev")
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
