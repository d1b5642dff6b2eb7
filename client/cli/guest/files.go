package guest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"stork/client/catalog"
	"stork/client/transaction"
	"stork/repo"
	"stork/repo/program"
)

type filesCmd struct {
	JSON    bool   `name:"json" help:"Print the file list."`
	Long    bool   `short:"l" help:"Show type, mode, owner and size too."`
	Package string `arg:"" help:"The package."`
}

// Run implements the command. Of what is installed the guest needs no catalog:
// the list is that of the record with which it was installed, and where nobody
// has that any more, what is there.
func (c *filesCmd) Run(ctx context.Context, g *Place, env *Environment, streams program.Streams) error {
	s := newSession(g, env, streams)
	defer s.close()
	files, err := c.published(ctx, s)
	if err == nil {
		return c.print(streams, files)
	}
	state, stateErr := s.state(ctx)
	if stateErr != nil {
		return errors.Join(err, stateErr)
	}
	have, specErr := installed(state, c.Package)
	if have == nil || specErr != nil {
		return errors.Join(specErr, err)
	}
	s.fallback(err)
	if files, recordErr := s.recorded(ctx, have); recordErr == nil {
		return c.print(streams, files)
	}
	files, err = s.placed(ctx, have)
	return errors.Join(c.print(streams, files), err)
}

// published is the signed file list of the package that would be installed.
func (c *filesCmd) published(ctx context.Context, s *session) ([]repo.File, error) {
	books, err := s.catalog(ctx)
	if err != nil {
		return nil, err
	}
	a, err := pick(ctx, books, c.Package)
	if err != nil {
		return nil, err
	}
	list, err := books.FileList(ctx, a)
	if err != nil {
		return nil, err
	}
	return list.Files, nil
}

func (c *filesCmd) print(out program.Streams, files []repo.File) error {
	if c.JSON {
		return out.JSON(files)
	}
	for i := range files {
		f := &files[i]
		if c.Long {
			fmt.Fprintln(out.Out, program.Line(fmt.Sprintf("%-7s %04o %-8s %-8s %10d %s%s", f.Type, f.Mode, orRoot(f.User), orRoot(f.Group), f.Size, f.Path, suffix(f))))
		} else {
			fmt.Fprintln(out.Out, program.Line(f.Path))
		}
	}
	return nil
}

// recorded is the file list that the record of an installed package names,
// which was verified then.
func (s *session) recorded(ctx context.Context, have *transaction.Installed) ([]repo.File, error) {
	p, err := s.pins()
	if err != nil {
		return nil, err
	}
	origin, err := s.origin(p)
	if err != nil {
		return nil, err
	}
	list, err := catalog.Recorded(ctx, origin.Files(have.Ref.Repository), have.Entry.Record)
	if err != nil {
		return nil, err
	}
	return list.Files, nil
}

// placed lists what an installed package has in this guest, with its
// attributes there. With overlays only the nest knows which of their files are
// whose.
func (s *session) placed(ctx context.Context, have *transaction.Installed) ([]repo.File, error) {
	guest, err := s.guest(ctx, true, nil)
	if err != nil {
		return nil, err
	}
	defer guest.Close()
	paths, err := guest.Paths(ctx, have)
	if errors.Is(err, transaction.ErrLayer) {
		err = &program.Error{Status: exitUnreachable, Err: err, Hint: "What is listed is private to this guest; the nest must run for the rest."}
	}
	files := []repo.File{}
	for _, p := range paths {
		files = append(files, s.seen(p))
	}
	return files, err
}

// seen describes what is at a path of the guest.
func (s *session) seen(p string) repo.File {
	f := repo.File{Path: p}
	info, err := os.Lstat(s.path(p))
	if err != nil {
		return f
	}
	f.Mode = uint32(info.Mode().Perm())
	switch {
	case info.Mode().IsRegular():
		f.Type, f.Size = repo.Regular, info.Size()
	case info.IsDir():
		f.Type = repo.Dir
	case info.Mode()&os.ModeSymlink != 0:
		f.Type = repo.Symlink
		if f.Link, err = os.Readlink(s.path(p)); err != nil {
			f.Link = ""
		}
	case info.Mode()&os.ModeNamedPipe != 0:
		f.Type = repo.Fifo
	}
	return f
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
