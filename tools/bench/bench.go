package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"stork/tools/testbed"
)

// lab is a testbed in a scratch folder, for one measurement or several.
type lab struct {
	tb  *testbed.Testbed
	dir string // scratch
	log io.Writer
}

// newLab makes a testbed with one nest.
func newLab(ctx context.Context, guests int, log io.Writer) (*lab, error) {
	return newLabOf(ctx, testbed.Options{Nests: 1, Guests: guests}, log)
}

// newLabOf makes any testbed; its folder is the lab's.
func newLabOf(ctx context.Context, o testbed.Options, log io.Writer) (*lab, error) {
	dir, err := os.MkdirTemp("", "stork-bench-")
	if err != nil {
		return nil, err
	}
	l := &lab{dir: dir, log: log}
	// The testbed's machines have users of their own, who must get there.
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, err
	}
	l.say("a testbed with %d nests and %d guests of each", o.Nests, o.Guests)
	o.Dir = filepath.Join(dir, "testbed")
	if l.tb, err = testbed.Up(ctx, o); err != nil {
		l.close()
		return nil, fmt.Errorf("cannot make a testbed: %w", err)
	}
	return l, os.Mkdir(l.packages(), 0o755)
}

// packages is where package files are built.
func (l *lab) packages() string { return filepath.Join(l.dir, "packages") }

func (l *lab) say(format string, args ...any) {
	fmt.Fprintf(l.log, "stork-bench: "+format+"\n", args...)
}

// close leaves nothing behind, whatever became of the measurement.
func (l *lab) close() {
	if l.tb != nil {
		if err := testbed.Down(context.Background(), l.tb.Dir()); err != nil {
			l.say("%v", err)
		}
	}
	if err := os.RemoveAll(l.dir); err != nil {
		l.say("%v", err)
	}
}

// run executes a command in a guest or machine and fails if it fails.
func (l *lab) run(ctx context.Context, where string, args ...string) (testbed.Result, string, error) {
	var out, errs bytes.Buffer
	result, err := l.tb.Exec(ctx, where, testbed.Command{Args: args, Stdout: &out, Stderr: &errs})
	if err == nil && result.Status != 0 {
		err = fmt.Errorf("cannot run %v in %s: status %d: %s", args, where, result.Status, bytes.TrimSpace(errs.Bytes()))
	}
	return result, out.String(), err
}
