package testbed

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestExecStatus(t *testing.T) {
	t.Parallel()
	tb := bare(t, Options{}, 1, 1)
	for _, c := range []struct {
		args []string
		want int
	}{
		{[]string{"true"}, 0},
		{[]string{"false"}, 1},
		{[]string{"sh", "-c", "exit 42"}, 42},
		{[]string{"sh", "-c", "exit 125"}, 125},
		{[]string{"sh", "-c", "kill -9 $$"}, 137},
		{[]string{"no-such-program"}, 127},
		{[]string{"/no/such/program"}, 127},
		{[]string{"/etc/passwd"}, 126},
	} {
		r, err := tb.Exec(context.Background(), "n1g1", Command{Args: c.args})
		if err != nil || r.Status != c.want {
			t.Errorf("%v: status %d, error %v, want %d", c.args, r.Status, err, c.want)
		}
	}
}

func TestExecStreams(t *testing.T) {
	t.Parallel()
	tb := bare(t, Options{}, 1, 1)
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // more than a pipe holds
	var out, errs bytes.Buffer
	r, err := tb.Exec(context.Background(), "n1g1", Command{
		Args: []string{"sh", "-c", "echo to stderr >&2; cat"}, Stdin: bytes.NewReader(data), Stdout: &out, Stderr: &errs,
	})
	must(t, err)
	if r.Status != 0 || sha256.Sum256(out.Bytes()) != sha256.Sum256(data) || errs.String() != "to stderr\n" {
		t.Errorf("status %d, %d bytes of %d, stderr %q", r.Status, out.Len(), len(data), errs.String())
	}
	// A file is handed on itself: the command's offset is ours.
	path := filepath.Join(t.TempDir(), "in")
	must(t, os.WriteFile(path, []byte("first\nsecond\n"), 0o600))
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	out.Reset()
	_, err = tb.Exec(context.Background(), "n1g1", Command{Args: []string{"cat"}, Stdin: f, Stdout: &out})
	must(t, err)
	if rest, _ := io.ReadAll(f); out.String() != "first\nsecond\n" || len(rest) != 0 {
		t.Errorf("command read %q, left %q", out.String(), rest)
	}
	// A command that does not read its input does not block us.
	_, err = tb.Exec(context.Background(), "n1g1", Command{Args: []string{"true"}, Stdin: bytes.NewReader(data)})
	must(t, err)
}

func TestExecEnvironmentIsClean(t *testing.T) {
	t.Setenv("STORK_TEST_LEAK", "leak")
	tb := bare(t, Options{}, 1, 1)
	var out bytes.Buffer
	_, err := tb.Exec(context.Background(), "n1g1", Command{Args: []string{"env"}, Env: []string{"MORE=1"}, Stdout: &out})
	must(t, err)
	for line := range strings.Lines(out.String()) {
		name, _, _ := strings.Cut(line, "=")
		if !strings.Contains(" PATH HOME TERM MORE ", " "+name+" ") {
			t.Errorf("the environment has %q", line)
		}
	}
	if !strings.Contains(out.String(), "MORE=1\n") {
		t.Error("the asked-for variable is missing")
	}
}

// TestExecEnds: a command ends with its caller, and orphans are reaped.
func TestExecEnds(t *testing.T) {
	t.Parallel()
	tb := bare(t, Options{}, 1, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if _, err := tb.Exec(ctx, "n1g1", Command{Args: []string{"sleep", "1000"}}); err == nil {
		t.Error("a canceled command has no error")
	}
	sh(t, tb, "n1g1", "for i in 1 2 3 4 5; do (sleep 0.01 &) ; done")
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		got, _ := sh(t, tb, "n1g1", "for p in /proc/[0-9]*; do cat $p/comm; done 2>/dev/null | grep -c sleep")
		if got == "0" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s processes are left", got)
		}
	}
}

func TestExecElapsed(t *testing.T) {
	t.Parallel()
	tb := bare(t, Options{}, 1, 1)
	r, err := tb.Exec(context.Background(), "n1g1", Command{Args: []string{"sleep", "0.2"}})
	must(t, err)
	if r.Elapsed < 200*time.Millisecond || r.Elapsed > 5*time.Second {
		t.Errorf("a sleep of 0.2 s took %v", r.Elapsed)
	}
	var total time.Duration
	const n = 50
	for range n {
		began := time.Now()
		_, err := tb.Exec(context.Background(), "n1g1", Command{Args: []string{"true"}})
		must(t, err)
		total += time.Since(began)
	}
	t.Log(fmt.Sprintf("exec of true: %v", total/n))
}
