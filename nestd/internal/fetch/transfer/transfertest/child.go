package transfertest

import (
	"bufio"
	"encoding/json"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"stork/nestd/internal/fetch/transfer"
)

// childVariable makes a test binary one that fetches: its value is a
// childRequest.
const childVariable = "STORK_TRANSFERTEST_CHILD"

type childRequest struct {
	Spool  string
	Config string
	Order  transfer.Order
}

// childReport is what a child says of its progress, a line each.
type childReport struct {
	Stored, Received int64
	Err              string
	Over             bool
}

// beChild fetches and tells how far it is.
func beChild(t *testing.T, s Subject, text string) {
	var request childRequest
	if err := json.Unmarshal([]byte(text), &request); err != nil {
		t.Fatal(err)
	}
	method, err := s.Method(request.Config)
	if err != nil {
		t.Fatal(err)
	}
	spool, err := os.OpenRoot(request.Spool)
	if err != nil {
		t.Fatal(err)
	}
	out := json.NewEncoder(os.NewFile(3, "reports"))
	say := func(r childReport) {
		if err := out.Encode(r); err != nil {
			t.Fatal(err)
		}
	}
	scheduler := transfer.NewScheduler(transfer.Options{
		Spool: spool, Lanes: []transfer.Lane{{Method: method, Stall: long}}, Progress: 4 << 10, Jobs: 1,
		Limits: transfer.NewLimits(transfer.Schedule{}), Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	got, err := scheduler.Fetch(t.Context(), request.Order, func(p transfer.Progress) {
		say(childReport{Stored: p.Stored, Received: p.Received})
	})
	last := childReport{Stored: got.Stored, Received: got.Received, Over: true}
	if err != nil {
		last.Err = err.Error()
	}
	say(last)
}

// killed kills the process that fetches whenever another tenth is there.
func (s Subject) killed(t *testing.T) {
	w := s.world(t, 8<<20, Slow)
	request, err := json.Marshal(childRequest{Spool: w.dir, Config: w.config, Order: w.order})
	if err != nil {
		t.Fatal(err)
	}
	top, _, _ := strings.Cut(t.Name(), "/")
	var lost, before int64
	for step := int64(1); step <= 10; step++ {
		first, last := w.runChild(top, string(request), step)
		if step > 1 {
			lost += max(before-first.Stored, 0)
		}
		before = last.Stored
		if last.Err != "" {
			t.Fatal(last.Err)
		}
		if step == 10 && !last.Over {
			t.Error("the last child did not end")
		}
		if last.Over {
			break
		}
	}
	w.check()
	if limit := w.order.Object.Size / 50; lost > limit {
		t.Errorf("%d bytes of %d were lost with those who were killed", lost, w.order.Object.Size)
	}
	t.Logf("%d bytes of %d were lost", lost, w.order.Object.Size)
}

// runChild runs a child, which is killed when step tenths are there, unless
// that is all. It returns the child's first and last report.
func (w *world) runChild(test, request string, step int64) (first, last childReport) {
	w.t.Helper()
	r, out, err := os.Pipe()
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.CommandContext(w.t.Context(), os.Args[0], "-test.run=^"+test+"$")
	cmd.Env = append(os.Environ(), childVariable+"="+request)
	cmd.ExtraFiles = []*os.File{out}
	cmd.Stderr, cmd.Stdout = w.t.Output(), w.t.Output()
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	out.Close() // the child has it
	lines := bufio.NewScanner(r)
	for n := 0; lines.Scan(); n++ {
		if err := json.Unmarshal(lines.Bytes(), &last); err != nil {
			w.t.Fatal(err)
		}
		if n == 0 || first.Stored+first.Received == 0 { // it may not have looked yet
			first = last
			first.Stored -= last.Received // what was there when it started
		}
		if step < 10 && last.Stored >= step*w.order.Object.Size/10 {
			if err := cmd.Process.Kill(); err != nil {
				w.t.Error(err)
			}
		}
	}
	// Its exit status says only whether it was killed.
	_ = cmd.Wait()
	return first, last
}
