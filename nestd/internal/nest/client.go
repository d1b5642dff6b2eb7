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
	name   string // in the guest's directory
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
// each in the run directory, to which every guest has a link.
func (n *Nest) giveClients(dir string) error {
	for _, c := range n.clients() {
		path := filepath.Join(dir, c.name)
		if sameFile(n.copyOf(c), path) {
			continue
		}
		temp := filepath.Join(dir, ".stork.new")
		if err := n.Disk.Remove(temp); err != nil {
			return err
		}
		if err := n.Disk.Link(n.copyOf(c), temp); err != nil {
			return err
		}
		if err := n.Disk.Rename(temp, path); err != nil {
			return err
		}
		if err := n.Disk.SyncDir(dir); err != nil {
			return err
		}
	}
	return nil
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
