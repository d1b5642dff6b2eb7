package cli

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"stork/repo"
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
	Warnings  []expiryWarning `json:"warnings"`
}

type expiryWarning struct {
	What    string    `json:"what"`
	Expires time.Time `json:"expires"`
}

// Run shows what readers see, and fails when something expires soon, so that
// a monitor can call it.
func (c *statusCmd) Run(env *environment, streams program.Streams) error {
	status, err := c.collect(env)
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

func (c *statusCmd) collect(env *environment) (*repositoryStatus, error) {
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
	}
	for _, w := range warnings {
		status.Warnings = append(status.Warnings, expiryWarning(w))
	}
	return status, nil
}

func (s *repositoryStatus) print(streams program.Streams) error {
	rows := [][]string{
		{"Root", s.Root.String()},
		{"Snapshot", strconv.FormatInt(s.Snapshot, 10)},
		{"Timestamp", fmt.Sprintf("%d, expires %s", s.Timestamp, s.Expires.UTC().Format(time.RFC3339))},
		{"Roles", strconv.Itoa(s.Roles)},
		{"Nests", strconv.Itoa(s.Nests)},
	}
	for _, w := range s.Warnings {
		rows = append(rows, []string{"Expires", w.Expires.UTC().Format(time.RFC3339) + "  " + w.What})
	}
	return streams.Table([]string{"Repository", s.Dir}, rows)
}
