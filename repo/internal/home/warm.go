package home

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"stork/repo"
	"stork/repo/api"
)

const (
	warmName   = "warm.json"
	warmFormat = 1
)

// warmFile is the file: what nests are told, and the version of the format.
type warmFile struct {
	Format   int               `json:"format"`
	Packages []api.WarmPackage `json:"packages"`
}

// Warm returns the packages that nests are asked to have beforehand.
func (h *Home) Warm() ([]api.WarmPackage, error) {
	list := warmFile{Format: warmFormat}
	b, err := readBounded(filepath.Join(h.dir, warmName), api.MaxWarmList)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = repo.DecodeStrict(b, &list)
	}
	if err == nil && list.Format != warmFormat {
		err = fmt.Errorf("unknown format %d, this program reads %d", list.Format, warmFormat)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read packages to warm: %w", err)
	}
	return list.Packages, nil
}

// SetWarm replaces the packages that nests are asked to have beforehand. The
// caller holds the lock.
func (h *Home) SetWarm(packages []api.WarmPackage) error {
	if len(packages) > api.MaxWarm {
		return fmt.Errorf("cannot warm %d packages: %d are possible", len(packages), api.MaxWarm)
	}
	b, err := repo.EncodeCanonical(warmFile{Format: warmFormat, Packages: append([]api.WarmPackage{}, packages...)})
	if err == nil {
		err = h.disk.WriteFile(filepath.Join(h.dir, warmName), append(b, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("cannot record packages to warm: %w", err)
	}
	return nil
}
