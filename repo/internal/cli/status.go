package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"stork/repo"
	"stork/repo/internal/home"
	"stork/repo/internal/server"
	"stork/repo/program"
)

type statusCmd struct {
	location
	JSON bool `help:"Print JSON." name:"json"`
}

// repositoryStatus is what the command prints.
type repositoryStatus struct {
	Dir       string          `json:"dir"`
	Root      repo.Digest     `json:"root"`
	Snapshot  int64           `json:"snapshot"`
	Timestamp int64           `json:"timestamp"`
	Expires   time.Time       `json:"expires"` // the timestamp
	Roles     int             `json:"roles"`   // delegated
	Nests     int             `json:"nests"`   // approved
	Server    *serverStatus   `json:"server,omitempty"`
	Warnings  []expiryWarning `json:"warnings"`
}

// serverStatus is what the server says that runs now.
type serverStatus struct {
	Address netip.AddrPort `json:"address"`
	server.Stats
}

type expiryWarning struct {
	What    string    `json:"what"`
	Expires time.Time `json:"expires"`
}

// Run shows what readers see, and fails when something expires soon, so that
// a monitor can call it.
func (c *statusCmd) Run(ctx context.Context, env *environment, streams program.Streams) error {
	status, err := c.collect(ctx, env)
	if err != nil {
		return err
	}
	if c.JSON {
		err = streams.JSON(status)
	} else {
		err = status.print(streams)
	}
	if err == nil && len(status.Warnings) > 0 {
		err = &program.Error{Status: exitExpiring, Err: errors.New(count(len(status.Warnings), "thing") + " expired or about to"),
			Hint: "The server renews snapshot and timestamp; `stork-repo refresh --all` renews root and targets; publishers renew their roles by publishing, and their key documents with `stork key`."}
	}
	return err
}

func (c *statusCmd) collect(ctx context.Context, env *environment) (*repositoryStatus, error) {
	h, err := c.open(env)
	if err != nil {
		return nil, err
	}
	metadata, err := h.Metadata()
	if err != nil {
		return nil, err
	}
	versions, err := h.Versions()
	if err != nil {
		return nil, err
	}
	delegations, err := metadata.Delegations()
	if err != nil {
		return nil, err
	}
	nests, err := h.Nests()
	if err != nil {
		return nil, err
	}
	warnings, err := metadata.Warnings()
	if err != nil {
		return nil, err
	}
	status := &repositoryStatus{
		Dir: h.Dir(), Root: h.Root, Snapshot: versions.Snapshot, Timestamp: versions.Timestamp,
		Expires: versions.Expires, Roles: len(delegations), Nests: len(nests), Warnings: []expiryWarning{},
		Server: askServer(ctx, h),
	}
	for _, w := range warnings {
		status.Warnings = append(status.Warnings, expiryWarning(w))
	}
	return status, nil
}

// askTimeout is how long a server on this host may take for its counts.
const askTimeout = 2 * time.Second

// askServer returns what the running server says; nil if none answers for
// this repository.
func askServer(ctx context.Context, h *home.Home) *serverStatus {
	at, err := h.Serving()
	if err != nil {
		return nil
	}
	s := &serverStatus{Address: at}
	if at.Addr().IsUnspecified() {
		at = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), at.Port())
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+at.String()+"/v1/stats", nil)
	if err != nil {
		return nil
	}
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		return nil // it was killed
	}
	defer response.Body.Close()
	b, err := io.ReadAll(io.LimitReader(response.Body, maxStats))
	if err != nil || repo.DecodeStrict(bytes.TrimSpace(b), &s.Stats) != nil || s.Root != h.Root {
		return nil
	}
	return s
}

// maxStats is more than a server's counts have, in bytes.
const maxStats = 64 << 10

func (s *serverStatus) rows() [][]string {
	if s == nil {
		return [][]string{{"Server", "none"}}
	}
	return [][]string{
		{"Server", s.Address.String()},
		{"Tracker", fmt.Sprintf("%s: %s, %s", count(s.Tracker.Swarms, "package"), count(s.Tracker.Seeds, "seed"), count(s.Tracker.Leechers, "leecher"))},
	}
}

func (s *repositoryStatus) print(streams program.Streams) error {
	rows := [][]string{
		{"Root", s.Root.String()},
		{"Snapshot", strconv.FormatInt(s.Snapshot, 10)},
		{"Timestamp", fmt.Sprintf("%d, expires %s", s.Timestamp, s.Expires.UTC().Format(time.RFC3339))},
		{"Roles", strconv.Itoa(s.Roles)},
		{"Nests", strconv.Itoa(s.Nests)},
	}
	rows = append(rows, s.Server.rows()...)
	for _, w := range s.Warnings {
		rows = append(rows, []string{"Expires", w.Expires.UTC().Format(time.RFC3339) + "  " + w.What})
	}
	return streams.Table([]string{"Repository", s.Dir}, rows)
}
