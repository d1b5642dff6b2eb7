package cli

import (
	"strconv"

	"stork/repo"
	"stork/repo/program"
)

type publisherListCmd struct {
	location
	JSON bool `help:"Print JSON." name:"json"`
}

// listedPublisher is one row of the list.
type listedPublisher struct {
	Name        repo.Publisher `json:"name"`
	Role        repo.Role      `json:"role"`
	Pin         repo.Digest    `json:"pin"`          // of key document version 1
	KeyDocument int64          `json:"key_document"` // version of the newest
	Version     int64          `json:"version"`      // of the role; 0: nothing is published
}

// Run lists the delegations.
func (c *publisherListCmd) Run(env *environment, streams program.Streams) error {
	h, err := c.open(env)
	if err != nil {
		return err
	}
	metadata, err := h.Metadata()
	if err != nil {
		return err
	}
	delegations, err := metadata.Delegations()
	if err != nil {
		return err
	}
	versions, err := h.Versions()
	if err != nil {
		return err
	}
	list, rows := []listedPublisher{}, [][]string{}
	for _, d := range delegations {
		p := listedPublisher{
			Name: d.Role.Publisher(), Role: d.Role, Pin: d.Pin, KeyDocument: d.Version, Version: versions.Roles[string(d.Role)],
		}
		list = append(list, p)
		rows = append(rows, []string{
			string(p.Name), kindOf(p.Role), strconv.FormatInt(p.Version, 10), strconv.FormatInt(p.KeyDocument, 10), p.Pin.String(),
		})
	}
	if c.JSON {
		return streams.JSON(list)
	}
	return streams.Table([]string{"NAME", "ROLE", "VERSION", "KEYS", "PIN"}, rows)
}
