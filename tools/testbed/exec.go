package testbed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"stork/tools/testbed/box"
)

// guestPath is where a guest's commands are looked for: stork lies in the
// nest's directory.
const (
	hostPath  = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	guestPath = "/run/stork:" + hostPath
)

// Exec runs a command as root of a guest, in /, or in one of the machines
// (repo, alice, n1 …), in the testbed's folder. It waits until the command
// has ended and its output is copied. Streams that are nil are empty or
// thrown away; an [os.File] is passed on as it is. When ctx ends, the command
// is killed.
func (t *Testbed) Exec(ctx context.Context, name string, c Command) (Result, error) {
	return t.ExecSignals(ctx, name, c, nil)
}

// ExecSignals is Exec, and sends the command what comes over signals.
func (t *Testbed) ExecSignals(ctx context.Context, name string, c Command, signals <-chan os.Signal) (Result, error) {
	e := &box.Exec{Args: c.Args, Dir: "/"}
	term := os.Getenv("TERM")
	if term == "" {
		term = "dumb"
	}
	if _, isGuest := t.state.Guests[name]; isGuest {
		e.Env = []string{"PATH=" + guestPath, "HOME=/root", "TERM=" + term}
	} else {
		e.Env = []string{"PATH=" + t.state.Bin + ":" + hostPath, "HOME=" + t.path(name), "TERM=" + term}
		e.Dir = t.dir
	}
	e.Env = append(e.Env, c.Env...)
	return t.run(ctx, name, e, c, signals)
}

// run passes the streams to a box and waits.
func (t *Testbed) run(ctx context.Context, name string, e *box.Exec, c Command, signals <-chan os.Signal) (_ Result, err error) {
	if len(c.Args) == 0 {
		return Result{}, errors.New("cannot run nothing: name a command")
	}
	if filepath.Base(name) != name {
		return Result{}, fmt.Errorf("cannot find %q in the testbed", name)
	}
	if _, err := os.Stat(t.socket(name)); err != nil {
		return Result{}, fmt.Errorf("cannot find %s in the testbed %s", name, t.dir)
	}
	s := &streams{}
	defer func() { err = errors.Join(err, s.finish()) }()
	err = errors.Join(s.input(c.Stdin), s.output(c.Stdout))
	if same(c.Stdout, c.Stderr) && err == nil {
		s.files = append(s.files, s.files[1]) // one pipe, for a writer need not bear two goroutines
	} else {
		err = errors.Join(err, s.output(c.Stderr))
	}
	if err != nil {
		return Result{}, fmt.Errorf("cannot pass streams: %w", err)
	}
	answer, err := box.Client{Socket: t.socket(name)}.Do(ctx, box.Request{Exec: e}, s.files, signals)
	if err != nil {
		return Result{}, fmt.Errorf("cannot run %s in %s: %w", c.Args[0], name, err)
	}
	return Result{Status: answer.Status, Elapsed: time.Duration(answer.Elapsed), MaxRSS: answer.MaxRSS}, nil
}

// same says whether two writers are one; some types can not be compared.
func same(a, b io.Writer) (equal bool) {
	defer func() { _ = recover() }()
	return a != nil && a == b
}

// streams are the descriptors of a command, and the copying between them and
// what the caller gave.
type streams struct {
	files   []*os.File // for the command
	ours    []*os.File // to close when it has them
	inputs  []*os.File // to close when it has ended
	copying sync.WaitGroup
	mu      sync.Mutex // guards err
	err     error
}

func (s *streams) input(r io.Reader) error {
	if f, ok := r.(*os.File); ok {
		s.files = append(s.files, f)
		return nil
	}
	if r == nil {
		null, err := os.Open(os.DevNull)
		s.files, s.ours = append(s.files, null), append(s.ours, null)
		return err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	s.files, s.ours, s.inputs = append(s.files, read), append(s.ours, read), append(s.inputs, write)
	go func() {
		_, _ = io.Copy(write, r) // a command need not read all of its input
		_ = write.Close()
	}()
	return nil
}

func (s *streams) output(w io.Writer) error {
	if f, ok := w.(*os.File); ok {
		s.files = append(s.files, f)
		return nil
	}
	if w == nil {
		null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		s.files, s.ours = append(s.files, null), append(s.ours, null)
		return err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	s.files, s.ours = append(s.files, write), append(s.ours, write)
	s.copying.Go(func() {
		_, err := io.Copy(w, read)
		err = errors.Join(err, read.Close())
		s.mu.Lock()
		defer s.mu.Unlock()
		s.err = errors.Join(s.err, err)
	})
	return nil
}

// finish closes our ends and waits for the output.
func (s *streams) finish() error {
	for _, f := range append(s.ours, s.inputs...) {
		if f != nil {
			_ = f.Close() // the command's copy is what counts
		}
	}
	s.copying.Wait()
	return s.err
}
