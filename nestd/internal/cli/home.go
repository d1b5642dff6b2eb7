package cli

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"stork/client"
	"stork/nestd/internal/fetch"
	"stork/repo"
	"stork/repo/durable"
	"stork/repo/program"
)

// home is the nest's directory:
//
//	nest.json      config; its presence says that init has finished
//	identity.key   the nest's ed25519 seed, in base64
//	state.db       the database
//	store/         objects and layers
//	spool/         blobs on their way, the fetcher's
//	seeds/         blobs and documents that are kept for peers, if any are
//	documents/     records, file lists, policies
//	repositories/  trust state and mirrored metadata
//	run/           sockets and guests' directories, unless --run-dir says otherwise
type home struct{ dir string }

func (h *home) path(name string) string { return filepath.Join(h.dir, name) }

// config is nest.json.
type config struct {
	Format   int          `json:"format"`
	Proxy    string       `json:"proxy,omitempty"` // of the fetcher
	RunDir   string       `json:"run_dir"`
	Transfer fetch.Config `json:"transfer,omitzero"`
	User     string       `json:"user,omitempty"` // of the children
	Warm     int64        `json:"warm_bytes,omitempty"`
}

const (
	configFormat = 1
	configName   = "nest.json"
	identityName = "identity.key"
	maxConfig    = 64 << 10
)

func operatorSocket(runDir string) string { return filepath.Join(runDir, "operator.sock") }

// load reads the config.
func (h *home) load() (*config, error) {
	b, err := os.ReadFile(h.path(configName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &program.Error{
			Status: exitNotFound, Err: fmt.Errorf("cannot open nest: there is none in %s", h.dir),
			Hint: "Make one with 'nestd init', or give its directory with --dir or NESTD_DIR.",
		}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open nest: %w", err)
	}
	c := new(config)
	if len(b) > maxConfig {
		err = errors.New("too large")
	} else if err = repo.DecodeStrict(b, c); err == nil && (c.Format != configFormat || !filepath.IsAbs(c.RunDir)) {
		err = fmt.Errorf("format %d is unknown, or run_dir is no absolute path", c.Format)
	}
	if err == nil {
		err = c.Transfer.Check()
	}
	if err == nil && c.Warm < 0 {
		err = fmt.Errorf("%d warm_bytes are not possible", c.Warm)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", h.path(configName), err)
	}
	return c, nil
}

func (h *home) save(disk durable.Disk, c *config) error {
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot write config: %w", err)
	}
	return disk.WriteFile(h.path(configName), append(b, '\n'), 0o644)
}

// operator returns the daemon of this nest.
func (h *home) operator() (*client.Operator, error) {
	c, err := h.load()
	if err != nil {
		return nil, err
	}
	return client.DialOperator(operatorSocket(c.RunDir)), nil
}

// identity reads the nest's key, and makes it if there is none.
func (h *home) identity(disk durable.Disk) (ed25519.PrivateKey, error) {
	b, err := os.ReadFile(h.path(identityName))
	if errors.Is(err, fs.ErrNotExist) {
		_, key, err := ed25519.GenerateKey(nil)
		if err != nil {
			return nil, fmt.Errorf("cannot make the nest's key: %w", err)
		}
		text := base64.StdEncoding.EncodeToString(key.Seed()) + "\n"
		return key, disk.WriteFile(h.path(identityName), []byte(text), 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the nest's key: %w", err)
	}
	seed, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("cannot read the nest's key: %s is damaged", h.path(identityName))
	}
	return ed25519.NewKeyFromSeed(seed), nil
}
