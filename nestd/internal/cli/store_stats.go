package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"

	"stork/nestd/api"
	"stork/repo/program"
)

type storeStatsCommand struct {
	JSON bool `name:"json" help:"Print JSON."`
}

// Run shows what the store holds, and what sharing saves.
func (c *storeStatsCommand) Run(ctx context.Context, streams program.Streams, home *home) error {
	operator, err := home.operator()
	if err != nil {
		return err
	}
	defer operator.Close()
	stats, err := operator.StoreStats(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		return streams.JSON(stats)
	}
	_, err = io.WriteString(streams.Out, statsText(stats))
	return err
}

// statsLine is one line of the table. Those that are for what is rare are left
// out when there is none of it.
type statsLine struct {
	what string
	sign string
	api.Amount
	rare bool
}

func statsText(s *api.StoreStats) string {
	text := english.Plural(s.Layers, "package", "") + ", " + english.Plural(s.Trees, "environment", "") + "\n\n"
	text += fmt.Sprintf("%-38s %10s %12s\n", "", "FILES", "ON DISK")
	for _, l := range []statsLine{
		{"as packaged", "", s.Packaged, false},
		{"  twice in one package", "-", s.Saved.Within, false},
		{"  in other versions of the package", "-", s.Saved.Versions, false},
		{"  in other packages of the publisher", "-", s.Saved.Packages, false},
		{"  in packages of other publishers", "-", s.Saved.Publishers, false},
		{"  again, for want of links", "+", s.LinkCopies, true},
		{"  of environments only", "+", s.Loose, true},
		{"stored", "", s.Stored, false},
		{"  same content, other time", "", s.Times, true},
		{"  same content, other mode", "", s.Modes, true},
	} {
		if l.Files == 0 && l.rare {
			continue
		}
		if l.Files == 0 {
			l.sign = ""
		}
		text += fmt.Sprintf("%-38s %10s %12s\n", l.what, l.sign+fmt.Sprint(l.Files), l.sign+sizeText(l.Bytes))
	}
	for _, l := range []struct {
		what  string
		bytes int64
	}{
		{"directories, symlinks of packages", s.LayerBytes},
		{"directories, symlinks of environments", s.TreeBytes},
		{"directories of stored files", s.ObjectDirBytes},
		{"file lists, records", s.DocumentBytes},
		{"database, with the index", s.DatabaseBytes},
	} {
		text += fmt.Sprintf("%-38s %10s %12s\n", l.what, "", sizeText(l.bytes))
	}
	text += fmt.Sprintf("\n%-38s %10d %12s\n", "copies that further guests do without", s.Guests.Files, sizeText(s.Guests.Bytes))
	if s.Unread > 0 {
		text += fmt.Sprintf("\nThe file lists of %d packages are lost: they are not counted. See nestd store check.\n", s.Unread)
	}
	return text
}

// sizeText is a number of bytes for people.
func sizeText(bytes int64) string { return humanize.IBytes(uint64(max(bytes, 0))) }
