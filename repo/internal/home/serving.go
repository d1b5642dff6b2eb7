package home

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"

	"stork/repo"
)

const (
	servingName   = "serving.json"
	servingFormat = 1
)

type serving struct {
	Address netip.AddrPort `json:"address"`
	Format  int            `json:"format"`
}

// SetServing notes where the server that has claimed the uploads listens, for
// the commands that ask it something.
func (h *Home) SetServing(at netip.AddrPort) error {
	b, err := repo.EncodeCanonical(serving{Address: at, Format: servingFormat})
	if err == nil {
		err = h.disk.WriteFile(filepath.Join(h.dir, servingName), append(b, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("cannot note the server's address: %w", err)
	}
	return nil
}

// EndServing removes the note.
func (h *Home) EndServing() error { return h.disk.Remove(filepath.Join(h.dir, servingName)) }

// Serving returns where the server listens, or did when it was killed. The
// error wraps fs.ErrNotExist if none does.
func (h *Home) Serving() (netip.AddrPort, error) {
	b, err := readBounded(filepath.Join(h.dir, servingName), maxSettings)
	if errors.Is(err, fs.ErrNotExist) {
		return netip.AddrPort{}, err
	}
	var s serving
	if err == nil {
		err = repo.DecodeStrict(b, &s)
	}
	if err == nil && s.Format != servingFormat {
		err = fmt.Errorf("unknown format %d, this program reads %d", s.Format, servingFormat)
	}
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("cannot read %s: %w", servingName, err)
	}
	return s.Address, nil
}
