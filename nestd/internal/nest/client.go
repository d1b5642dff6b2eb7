package nest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"stork/nestd/api"
)

// maxClient bounds a client binary, in bytes.
const maxClient = 256 << 20

// client is a program that guests get.
type client struct {
	name   string // in the guest's directory, and of the copy
	source string // where this host has it
}

// clients returns the programs that guests get, each behind what it needs.
func (n *Nest) clients() []client {
	switch {
	case n.Client == "":
		return nil
	case n.Quick == "":
		return []client{{api.BinaryName, n.Client}}
	}
	return []client{{api.WholeName, n.Client}, {api.BinaryName, n.Quick}}
}

// giveClients makes a guest's programs those that this nest has: one copy of
// each in the run directory, to which every guest has a link. In a guest that
// has never had anything, stork is the whole program under both names: its
// first install is more than the quick one can do.
func (n *Nest) giveClients(ctx context.Context, guest string) error {
	entitled, err := n.State.Entitled(ctx, guest)
	if err != nil {
		return err
	}
	any := false
	for _, c := range n.clients() {
		copied := n.copyOf(c)
		if c.name == api.BinaryName && n.Quick != "" && len(entitled) == 0 {
			copied = n.copyOf(client{name: api.WholeName})
			n.slow.Store(guest, true)
		}
		changed, err := n.giveClient(n.guestDir(guest), c.name, copied)
		if err != nil {
			return err
		}
		any = any || changed
	}
	if !any {
		return nil
	}
	return n.Disk.SyncDir(n.guestDir(guest))
}

func (n *Nest) giveClient(dir, name, copied string) (changed bool, err error) {
	path := filepath.Join(dir, name)
	if sameFile(copied, path) {
		return false, nil
	}
	temp := filepath.Join(dir, ".stork.new")
	if err := n.Disk.Remove(temp); err != nil {
		return false, err
	}
	if err := n.Disk.Link(copied, temp); err != nil {
		return false, err
	}
	return true, n.Disk.Rename(temp, path)
}

// quicken gives a guest that has just got its first package the quick program.
// Nobody waits for that, nor does it matter if it fails: the next start-up does
// it.
func (n *Nest) quicken(guest string) {
	if _, slow := n.slow.LoadAndDelete(guest); !slow {
		return
	}
	n.work.Go(func() {
		n.guestMu.Lock()
		defer n.guestMu.Unlock()
		if _, err := n.giveClient(n.guestDir(guest), api.BinaryName, n.copyOf(client{name: api.BinaryName})); err != nil {
			n.Log.Debug("cannot give the quick client", "guest", guest, "err", err)
		}
	})
}

// copyOf is the path of the copy.
func (n *Nest) copyOf(c client) string { return filepath.Join(n.RunDir, c.name) }

// copyClients renews the copies when the daemon starts and the programs have
// changed. A guest can not write to them: its directory is bound read-only.
func (n *Nest) copyClients(context.Context) error {
	for _, c := range n.clients() {
		b, err := readClient(c.source)
		if err != nil {
			return fmt.Errorf("cannot copy the client: %w", err)
		}
		if old, err := os.ReadFile(n.copyOf(c)); err == nil && bytes.Equal(old, b) {
			continue
		}
		if err := n.Disk.WriteFile(n.copyOf(c), b, 0o755); err != nil {
			return err
		}
	}
	return nil
}

func readClient(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxClient))
}

func sameFile(a, b string) bool {
	ai, err := os.Lstat(a)
	if err != nil {
		return false
	}
	bi, err := os.Lstat(b)
	return err == nil && os.SameFile(ai, bi)
}
