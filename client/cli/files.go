package cli

import (
	"context"
	"fmt"
	"strings"

	"stork/repo"
	"stork/repo/program"
)

type filesCmd struct {
	JSON    bool   `name:"json" help:"Print the file list."`
	Long    bool   `short:"l" help:"Show type, mode, owner and size too."`
	Package string `arg:"" help:"The package."`
}

// Run implements the command.
func (c *filesCmd) Run(ctx context.Context, g *grammar, env *environment, streams program.Streams) error {
	s := newSession(g, env, streams)
	defer s.close()
	books, err := s.catalog(ctx)
	if err != nil {
		return err
	}
	a, err := pick(ctx, books, c.Package)
	if err != nil {
		return err
	}
	list, err := books.FileList(ctx, a)
	if err != nil {
		return err
	}
	if c.JSON {
		return streams.JSON(list.Files)
	}
	for i := range list.Files {
		f := &list.Files[i]
		if c.Long {
			fmt.Fprintf(streams.Out, "%-7s %04o %-8s %-8s %10d %s%s\n", f.Type, f.Mode, orRoot(f.User), orRoot(f.Group), f.Size, f.Path, suffix(f))
		} else {
			fmt.Fprintln(streams.Out, f.Path)
		}
	}
	return nil
}

func orRoot(name string) string {
	if name == "" {
		return "root"
	}
	return name
}

func suffix(f *repo.File) string {
	s := ""
	if f.Link != "" {
		s = " -> " + f.Link
	}
	if len(f.Flags) > 0 {
		flags := make([]string, len(f.Flags))
		for i, flag := range f.Flags {
			flags[i] = string(flag)
		}
		s += " (" + strings.Join(flags, ", ") + ")"
	}
	return s
}
