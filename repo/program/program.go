// Package program is the frame that Stork's command-line programs share:
// parsing with kong, completion, man page, version, and how errors and exit
// statuses reach the user. The commands themselves live in each program's cli
// package, one in a file.
//
// Start with [Run].
package program

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/alecthomas/kong"
	mangokong "github.com/alecthomas/mango-kong"
	"github.com/muesli/roff"
	"github.com/willabides/kongplete"

	"stork/repo"
)

// Streams are a program's standard streams, so that a test can run the whole
// program.
type Streams struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
}

// Exit statuses that every program shares. Each documents its further ones.
const (
	OK     = 0
	Failed = 1
	Usage  = 2
)

// Error is a user's error: what went wrong, what to do next, and the exit
// status.
type Error struct {
	Status int
	Hint   string // a sentence, or empty
	Err    error
}

// Error implements error.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Spec says what a program is.
type Spec struct {
	Name        string
	Description string
	Grammar     any                    // pointer to the kong struct, a fresh one for each run; its flags are filled in, but commands run as copies
	Bind        []any                  // further arguments of the commands' Run methods
	Explain     func(err error) *Error // maps an error of the domain; may return nil
	Leave       func(err error) bool   // reports whether an error is not to be told, for somebody else goes on; may be nil
}

// Common are the flags that every program has. Embed it in the grammar.
type Common struct {
	Version versionFlag `help:"Print the version and exit."`
	Man     manFlag     `hidden:"" help:"Print the man page and exit."`
}

type versionFlag bool

// BeforeReset prints the version before missing arguments are complained of.
func (versionFlag) BeforeReset(app *kong.Kong) error {
	_, err := fmt.Fprintln(app.Stdout, app.Model.Name, repo.Version)
	app.Exit(OK)
	return err
}

type manFlag bool

// BeforeReset prints the man page in roff.
func (manFlag) BeforeReset(app *kong.Kong) error {
	_, err := fmt.Fprint(app.Stdout, mangokong.NewManPage(1, app.Model).Build(roff.NewDocument()))
	app.Exit(OK)
	return err
}

// exit carries a status through kong, which expects its exit function not to
// return.
type exit int

// Run parses args and runs the command they name. It returns the exit
// status. Commands' Run methods may take a context.Context, Streams and
// whatever spec binds.
func Run(ctx context.Context, spec Spec, args []string, streams Streams) (status int) {
	defer func() {
		switch v := recover().(type) {
		case nil:
		case exit:
			status = int(v)
		default:
			panic(v)
		}
	}()
	parser, err := kong.New(narrow(spec.Grammar, args),
		kong.Name(spec.Name), kong.Description(spec.Description),
		kong.Writers(streams.Out, streams.Err), kong.Exit(func(code int) { panic(exit(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(streams), kong.Bind(spec.Bind...))
	if err != nil {
		panic(fmt.Sprintf("the grammar of %s is wrong: %v", spec.Name, err))
	}
	if os.Getenv("COMP_LINE") != "" {
		kongplete.Complete(parser)
	}
	command, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(streams.Err, "%s: %v\nTry '%s --help'.\n", spec.Name, err, commandOf(spec.Name, err))
		return Usage
	}
	return spec.report(command.Run(), streams.Err)
}

// commandOf returns the command whose help tells what was wrong, as far as it
// was understood.
func commandOf(name string, err error) string {
	var wrong *kong.ParseError
	if errors.As(err, &wrong) && wrong.Context != nil {
		for _, step := range wrong.Context.Path {
			if step.Command != nil {
				name += " " + step.Command.Name
			}
		}
	}
	return name
}

// report tells the user what went wrong and returns the exit status.
func (s Spec) report(err error, w io.Writer) int {
	if err == nil {
		return OK
	}
	if s.Leave != nil && s.Leave(err) {
		return Failed
	}
	var told *Error
	if !errors.As(err, &told) && s.Explain != nil {
		told = s.Explain(err)
	}
	if told == nil {
		told = &Error{Status: Failed, Err: err}
	}
	if errors.Is(err, context.Canceled) {
		told = &Error{Status: Failed, Err: errors.New("interrupted")}
	}
	fmt.Fprintf(w, "%s: %s\n", s.Name, Text(told.Error()))
	if told.Hint != "" {
		fmt.Fprintf(w, "%s\n", Text(told.Hint))
	}
	return told.Status
}
