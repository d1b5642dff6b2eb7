package cli

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"

	"stork/repo/program"
	"stork/tools/testbed"
)

type statsCommand struct {
	target
	JSON bool `name:"json" help:"Print JSON."`
}

// Run prints the figures.
func (c *statsCommand) Run(ctx context.Context, streams program.Streams) error {
	t, err := testbed.Open(c.Dir)
	if err != nil {
		return err
	}
	s, err := t.Stats(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		return streams.JSON(s)
	}
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	rows := [][]string{
		{"repo", "blob bytes served", number(s.Repo.BlobBytesServed)},
		{"repo", "metadata bytes served", number(s.Repo.MetaBytesServed)},
		{"repo", "blob requests", number(s.Repo.BlobRequests)},
	}
	for _, name := range sorted(s.Nests) {
		n := s.Nests[name]
		rows = append(rows, []string{name, "bytes fetched", number(n.BytesFetched)}, []string{name, "store bytes", number(n.StoreBytes)},
			[]string{name, "objects", strconv.Itoa(n.Objects)}, []string{name, "layers", strconv.Itoa(n.Layers)})
	}
	for _, name := range sorted(s.Guests) {
		g := s.Guests[name]
		rows = append(rows, []string{name, "private bytes", number(g.PrivateBytes)}, []string{name, "mounts", strconv.Itoa(g.Mounts)})
	}
	return streams.Table([]string{"where", "what", "figure"}, rows)
}

func sorted[V any](m map[string]V) []string {
	return slices.SortedFunc(maps.Keys(m), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
	})
}
