package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"stork/client/share"
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
	if err != nil && !c.JSON && !c.Long {
		return c.placed(ctx, s, err)
	}
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
			fmt.Fprintln(streams.Out, program.Line(fmt.Sprintf("%-7s %04o %-8s %-8s %10d %s%s", f.Type, f.Mode, orRoot(f.User), orRoot(f.Group), f.Size, f.Path, suffix(f))))
		} else {
			fmt.Fprintln(streams.Out, program.Line(f.Path))
		}
	}
	return nil
}

// placed lists what an installed package has in this guest, where the signed
// file list can not be had.
func (c *filesCmd) placed(ctx context.Context, s *session, why error) error {
	state, err := s.state(ctx)
	if err != nil {
		return err
	}
	have, err := installed(state, c.Package)
	if have == nil || err != nil {
		return errors.Join(err, why)
	}
	root, err := share.OpenRoot(s.g.Sysroot, s.disk)
	if err != nil {
		return err
	}
	defer root.Close()
	paths, err := have.Placed.Paths(root)
	if err != nil {
		return err
	}
	s.fallback(why)
	for _, p := range paths {
		fmt.Fprintln(s.streams.Out, program.Line(p))
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
