package testbed

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stork/tools/testbed/box"
)

func TestMain(m *testing.M) {
	if box.IsChild(os.Args) {
		os.Exit(box.RunChild(os.Args))
	}
	os.Exit(m.Run())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func skipOrFail(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// bare is a testbed without Stork's programs: a hub, machines and guests.
func bare(t *testing.T, o Options, machines, guests int) *Testbed {
	t.Helper()
	if !privileged() {
		skipOrFail(t, "needs root")
	}
	return bareAnywhere(t, o, machines, guests)
}

func bareAnywhere(t *testing.T, o Options, machines, guests int) *Testbed {
	t.Helper()
	if o.Dir == "" {
		o.Dir = filepath.Join(t.TempDir(), "bed")
	}
	o.Nests, o.Guests = machines, guests
	tb, rate, err := o.check()
	must(t, err)
	lock, err := tb.makeFolder()
	must(t, err)
	hub, err := tb.startHub(o, lock)
	must(t, err)
	t.Cleanup(func() {
		hub.Close()
		if err := Down(context.Background(), tb.dir); err != nil && !strings.Contains(err.Error(), errNone.Error()) {
			t.Error(err)
		}
	})
	ctx := context.Background()
	for i, nest := range tb.state.Nests {
		must(t, tb.startMachine(ctx, nest, i, rate))
		for _, guest := range tb.Guests(nest) {
			directory := tb.path(nest + "-" + guest)
			must(t, os.MkdirAll(filepath.Join(directory, "view"), 0o755))
			must(t, os.WriteFile(filepath.Join(directory, "stork"), []byte("#!/bin/sh\necho stork $1\n"), 0o755))
			must(t, tb.bootGuest(ctx, nest, guest, directory))
		}
	}
	tb.state.Ready = true
	must(t, tb.save())
	_, err = tb.ask(ctx, "hub", box.Request{Release: true})
	must(t, err)
	return tb
}

// sh runs a script in a guest or machine.
func sh(t *testing.T, tb *Testbed, name, script string) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var out bytes.Buffer
	r, err := tb.Exec(ctx, name, Command{Args: []string{"sh", "-c", script}, Stdout: &out, Stderr: &out})
	if err != nil {
		t.Fatalf("%s: %v", script, err)
	}
	return strings.TrimSpace(out.String()), r.Status
}

func TestGuest(t *testing.T) {
	t.Parallel()
	tb := bare(t, Options{}, 1, 2)
	for _, c := range []struct{ script, want string }{
		{"id -u", "0"},
		{"pwd", "/"},
		{"echo $HOME $PATH", "/root /run/stork:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		{"hostname", "n1g1"},
		{"stork hello", "stork hello"},
		{"touch /run/stork/x 2>/dev/null || echo read-only", "read-only"},
		{"stat -c '%u %a' / /tmp /run /root", "0 755\n0 1777\n0 755\n0 700"},
		{"stat -c %U /etc/passwd", "root"},
		{"echo hi > /etc/mine && cat /etc/mine", "hi"},
		{"mkdir -p /opt/x && touch /opt/x/y && stat -c %u /opt/x/y", "0"},
		{"echo x > /dev/null && head -c 2 /dev/zero | wc -c", "2"},
		{"cat /proc/1/comm", "exe"},
		{"test -d /var/lib/dpkg && grep -c . /etc/shadow >/dev/null && echo ok", "ok"},
		{"head -1 /etc/shadow", "root:*:19000:0:99999:7:::"},
		{"cat /proc/self/uid_map | tr -s ' '", "0 1048576 65536"},
		{"ip -o link 2>/dev/null | grep -c . || ls /sys/class/net 2>/dev/null | wc -l", "1"},
		{"mkdir /tmp/m && mount -t tmpfs x /tmp/m && echo mounted && umount /tmp/m", "mounted"},
	} {
		if got, _ := sh(t, tb, "n1g1", c.script); got != c.want {
			t.Errorf("%s\n got %q\nwant %q", c.script, got, c.want)
		}
	}
	if got, _ := sh(t, tb, "n1g2", "ls /etc/mine 2>&1; hostname"); !strings.HasSuffix(got, "n1g2") || !strings.Contains(got, "No such") {
		t.Errorf("the second guest sees %q of the first", got)
	}
}
