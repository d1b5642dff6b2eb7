package chain

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"stork/repo"
	"stork/repo/durable"
)

// graceFile remembers for how long the owner's policy, when it was last
// verified, lets expired metadata serve. Losing it only loses the grace.
type graceFile struct {
	disk durable.Disk
	path string
}

// graceText is the file's content.
type graceText struct {
	Offline int64 `json:"offline"` // seconds
}

// load returns the grace; none if there is no file.
func (g graceFile) load() (time.Duration, error) {
	b, err := os.ReadFile(g.path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("cannot read the offline grace: %w", err)
	}
	var text graceText
	if err := repo.DecodeStrict(b, &text); err != nil {
		return 0, fmt.Errorf("cannot read the offline grace: %w", err)
	}
	return time.Duration(text.Offline) * time.Second, nil
}

// save records the grace if it changed.
func (g graceFile) save(granted time.Duration) error {
	if had, err := g.load(); err == nil && had == granted {
		return nil
	}
	b, err := repo.EncodeCanonical(graceText{Offline: int64(granted / time.Second)})
	if err != nil {
		return err
	}
	return g.disk.WriteFile(g.path, b, 0o600)
}
