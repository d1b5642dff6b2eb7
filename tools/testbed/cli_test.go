package testbed_test

import (
	"bytes"
	"context"
	"testing"

	"stork/tools/testbed"
	"stork/tools/testbed/cli"
)

func TestExecCommand(t *testing.T) {
	t.Parallel()
	tb := testbed.Bare(t, testbed.Options{}, 1, 1)
	run := func(args ...string) (status int, out, errs string) {
		var o, e bytes.Buffer
		status = cli.Run(context.Background(), args, bytes.NewReader([]byte("input")), &o, &e)
		return status, o.String(), e.String()
	}
	for _, c := range []struct {
		args []string
		want int
		out  string
	}{
		{[]string{"true"}, 0, ""},
		{[]string{"sh", "-c", "exit 42"}, 42, ""},
		{[]string{"sh", "-c", "exit 125"}, 125, ""},
		{[]string{"no-such-program"}, 127, ""},
		{[]string{"cat"}, 0, "input"},
		{[]string{"echo", "--dir", "x", "--", "-y"}, 0, "--dir x -- -y\n"},
		{[]string{"pwd"}, 0, "/\n"},
	} {
		args := append([]string{"exec", "--dir", tb.Dir(), "n1g1", "--"}, c.args...)
		if got, out, errs := run(args...); got != c.want || out != c.out {
			t.Errorf("%v: status %d, output %q, want %d, %q: %s", args, got, out, c.want, c.out, errs)
		}
	}
	for name, args := range map[string][]string{
		"no guest":      {"exec", "--dir", tb.Dir(), "n9g9", "--", "true"},
		"path as guest": {"exec", "--dir", tb.Dir(), "../run/n1g1", "--", "true"},
		"no testbed":    {"exec", "--dir", t.TempDir(), "n1g1", "--", "true"},
		"no command":    {"exec", "--dir", tb.Dir(), "n1g1", "--"},
		"no arguments":  {"exec", "--dir", tb.Dir()},
		"wrong flag":    {"exec", "--dri", tb.Dir(), "n1g1", "--", "true"},
		"no folder":     {"exec", "n1g1", "--", "true"},
	} {
		if got, _, errs := run(args...); got != cli.StatusOwn || errs == "" {
			t.Errorf("%s: status %d and message %q, want %d and a message", name, got, errs, cli.StatusOwn)
		}
	}
	if got, _, errs := run("down", "--dir", tb.Dir()); got != 0 {
		t.Errorf("down: status %d: %s", got, errs)
	}
	if got, _, _ := run("down", "--dir", tb.Dir()); got == 0 {
		t.Error("down of nothing has status 0")
	}
}
