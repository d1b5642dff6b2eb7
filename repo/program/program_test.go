package program_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"stork/repo"
	"stork/repo/program"
)

// grammar is a small program.
type grammar struct {
	program.Common
	Do doCmd `cmd:"" help:"Do something."`
	Go struct {
		On doCmd `cmd:"" help:"Go on."`
	} `cmd:"" help:"Go."`
}

type doCmd struct {
	Count int    `help:"How often."`
	What  string `arg:"" optional:""`
}

type boom struct{}

var errDomain = errors.New("the domain's error")

func (c *doCmd) Run(ctx context.Context, streams program.Streams) error {
	switch c.What {
	case "error":
		return errors.New("cannot do it")
	case "hint":
		return fmt.Errorf("wrapped: %w", &program.Error{Status: 7, Hint: "Do it again.", Err: errors.New("cannot do it")})
	case "domain":
		return fmt.Errorf("cannot do it: %w", errDomain)
	case "escape":
		return errors.New("evil \x1b[2Jtext\u202e")
	case "cancelled":
		return fmt.Errorf("cannot do it: %w", context.Canceled)
	case "panic":
		panic(boom{})
	}
	_, err := fmt.Fprintln(streams.Out, "done", c.Count)
	return err
}

func explain(err error) *program.Error {
	if errors.Is(err, errDomain) {
		return &program.Error{Status: 9, Hint: "Change the domain.", Err: err}
	}
	return nil
}

func run(args ...string) (status int, stdout, stderr string) {
	var out, errs bytes.Buffer
	status = program.Run(context.Background(), program.Spec{Name: "prog", Description: "A program.", Grammar: new(grammar), Explain: explain},
		args, program.Streams{In: strings.NewReader(""), Out: &out, Err: &errs})
	return status, out.String(), errs.String()
}

// TestMain lets the test binary be the program, for a shell that asks for
// completion.
func TestMain(m *testing.M) {
	if os.Getenv("COMP_LINE") != "" {
		status, out, _ := run()
		fmt.Print(out)
		os.Exit(status)
	}
	os.Exit(m.Run())
}

func TestRun(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args        string
		status      int
		out, errors string // exactly, or with "…" at the end, the beginning
	}{
		{"do", 0, "done 0\n", ""},
		{"do --count=2", 0, "done 2\n", ""},
		{"--version", 0, "prog " + repo.Version + "\n", ""},
		{"do --version", 0, "prog " + repo.Version + "\n", ""},
		{"--help", 0, "Usage: prog <command>…", ""},
		{"go on --help", 0, "Usage: prog go on…", ""},
		{"--man", 0, ".TH…", ""},
		{"", 2, "", "prog: expected one of \"do\", \"go\"\nTry 'prog --help'.\n"},
		{"undo", 2, "", "prog: unexpected argument undo…"},
		{"do --wrong", 2, "", "prog: unknown flag --wrong\nTry 'prog do --help'.\n"},
		{"go on --count=x", 2, "", "prog: --count: expected a valid 64 bit int but got \"x\"\nTry 'prog go on --help'.\n"},
		{"do error", 1, "", "prog: cannot do it\n"},
		{"do hint", 7, "", "prog: cannot do it\nDo it again.\n"},
		{"do domain", 9, "", "prog: cannot do it: the domain's error\nChange the domain.\n"},
		{"do escape", 1, "", "prog: evil ?[2Jtext?\n"},
		{"do cancelled", 1, "", "prog: interrupted\n"},
	} {
		status, out, errs := run(strings.Fields(tt.args)...)
		if status != tt.status || !fits(out, tt.out) || !fits(errs, tt.errors) {
			t.Errorf("%q: got status %d\nstdout %q\nstderr %q\nwant %d\n%q\n%q", tt.args, status, out, errs, tt.status, tt.out, tt.errors)
		}
	}
}

func fits(got, want string) bool {
	if start, ok := strings.CutSuffix(want, "…"); ok {
		return strings.HasPrefix(got, start)
	}
	return got == want
}

// TestNarrowed: the man page, wherever it is asked for, has all commands; help
// of one command is the same whether the others were built or not.
func TestNarrowed(t *testing.T) {
	t.Parallel()
	_, whole, _ := run("--man")
	if _, got, _ := run("do", "--man"); got != whole || !strings.Contains(got, "go on") {
		t.Errorf("the man page is not whole:\n%s", got)
	}
	_, asked, _ := run("do", "--help")
	if _, got, _ := run("--help", "do"); got != asked || !strings.HasPrefix(got, "Usage: prog do") {
		t.Errorf("help of a command: %q; with all of them built: %q", asked, got)
	}
	if status, _, errs := run("do", "go"); status != program.OK || errs != "" {
		t.Errorf("an argument like a command: %d, %q", status, errs)
	}
}

// TestPanic: a defect is seen, with its own stack.
func TestPanic(t *testing.T) {
	t.Parallel()
	defer func() {
		if got := recover(); got != (boom{}) {
			t.Errorf("recovered %v, want the command's panic", got)
		}
	}()
	run("do", "panic")
}

func TestWrongGrammar(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("a grammar that kong refuses did not panic")
		}
	}()
	program.Run(context.Background(), program.Spec{Name: "prog", Grammar: &struct{ A, B chan int }{}}, nil, program.Streams{})
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{"prog g": "go\n", "prog go ": "on\n", "prog do --c": "--count\n"} {
		command := exec.Command("/proc/self/exe")
		command.Env = append(os.Environ(), "COMP_LINE="+line, fmt.Sprintf("COMP_POINT=%d", len(line)))
		out, err := command.Output()
		if err != nil || string(out) != want {
			t.Errorf("%q: got %q, %v; want %q", line, out, err, want)
		}
	}
}

func TestConfirm(t *testing.T) {
	t.Parallel()
	for input, want := range map[string]bool{
		"y\n": true, "Y\n": true, "yes\n": true, " yes \n": true, "y": true,
		"\n": false, "n\n": false, "yep\n": false, "no\n": false, "y n\n": false, strings.Repeat("y", 100): false,
	} {
		var errs bytes.Buffer
		got, err := program.Streams{In: strings.NewReader(input), Err: &errs}.Confirm("Go on?")
		if got != want || err != nil || errs.String() != "Go on? [y/N] " {
			t.Errorf("%q: got %v, %v, asked %q", input, got, err, errs.String())
		}
	}
	var told *program.Error
	yes, err := program.Streams{In: strings.NewReader(""), Err: new(bytes.Buffer)}.Confirm("Go on?")
	if yes || !errors.As(err, &told) || told.Status != program.Failed || !strings.Contains(told.Hint, "-y") {
		t.Errorf("at the end of input: %v, %v", yes, err)
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := program.Streams{Out: &out}
	if err := s.Table([]string{"name", "size", ""}, [][]string{{"a", "1 kB", ""}, {"longer", "2 B", "note"}, {"evil\x1b[31m\nline\tx", "3", ""}}); err != nil {
		t.Fatal(err)
	}
	want := "name              size  \na                 1 kB\nlonger            2 B  note\nevil?[31m line x  3\n"
	if got := out.String(); got != want {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
	out.Reset()
	if err := s.Table([]string{"name"}, nil); err != nil || out.Len() > 0 {
		t.Errorf("no rows: %q, %v", out.String(), err)
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := (program.Streams{Out: &out}).JSON(map[string]any{"a": "<b>", "n": []int{}}); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "{\n  \"a\": \"<b>\",\n  \"n\": []\n}\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
