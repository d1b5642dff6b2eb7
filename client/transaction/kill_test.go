package transaction

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"stork/client/share"
	"stork/repo"
	"stork/repo/durable"
)

// killRounds is how often a process is killed.
const killRounds = 30

// killJob is what the child of TestKill is told to do.
type killJob struct {
	Dir    string
	Method share.Method
	Views  map[repo.Digest]string
	Hidden map[repo.Digest][]string
	Pair   [2]Package
}

// TestKill kills a process that upgrades and downgrades all the time, at any
// moment. Every time the next one finds the old package or the new one.
func TestKill(t *testing.T) {
	t.Parallel()
	if os.Getenv("STORK_TEST_KILL") != "" {
		victim(t)
		return
	}
	for _, method := range []share.Method{share.Bind, share.Overlay} {
		t.Run(string(method), func(t *testing.T) {
			t.Parallel()
			kill(t, method)
		})
	}
}

func kill(t *testing.T, method share.Method) {
	w := newWorld(t)
	w.method = method
	job := killJob{Dir: w.dir, Method: method, Views: w.views, Hidden: w.hidden}
	for i, v := range []string{"1", "2"} {
		job.Pair[i] = w.pkg("a", v, map[string]string{"/opt/a/f": v, "/opt/a/only" + v: v, "/etc/a!": v, "/opt/b/" + v: v}, "post", "preun")
	}
	w.run(Change{Install: []Package{job.Pair[0]}})
	b, err := json.Marshal(job)
	w.must(err)
	seen, interrupted := map[string]int{}, 0
	for round := range killRounds {
		w.killOne(b, time.Duration(round)*700*time.Microsecond)
		left := durable.Slots{Path: filepath.Join(w.root, stateDir, journalName), Max: maxState}
		if _, err := left.Read(); err == nil {
			interrupted++
		}
		names := w.installed()
		if len(names) != 1 {
			t.Fatalf("round %d: installed %q", round, names)
		}
		seen[names[0]]++
		version := names[0][2:3]
		if tree := w.tree(); tree["/opt/a/f"] != version || tree["/etc/a"] != version || tree["/opt/b/"+version] != version {
			t.Fatalf("round %d: %s has %v", round, names[0], tree)
		}
	}
	t.Logf("found: %v; %d of %d were in a transaction", seen, interrupted, killRounds)
	if interrupted == 0 {
		t.Error("no kill met a transaction")
	}
}

// killOne starts a victim, waits until it has begun, and kills it.
func (w *world) killOne(job []byte, wait time.Duration) {
	w.t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestKill$")
	cmd.Env = append(os.Environ(), "STORK_TEST_KILL="+string(job))
	out, err := cmd.StdoutPipe()
	w.must(err)
	w.must(cmd.Start())
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		rest, _ := io.ReadAll(out)
		w.t.Fatalf("the victim did not begin: %v %s", err, rest)
	}
	time.Sleep(wait)
	w.must(cmd.Process.Kill())
	_ = cmd.Wait() // it was killed
}

func victim(t *testing.T) {
	w := &world{t: t, trees: map[repo.Digest]bool{}}
	var job killJob
	w.must(json.Unmarshal([]byte(os.Getenv("STORK_TEST_KILL")), &job))
	w.dir, w.root, w.method = job.Dir, filepath.Join(job.Dir, "root"), job.Method
	w.views, w.hidden = job.Views, job.Hidden
	fmt.Println("begun")
	for {
		g, err := w.tryOpen(nil)
		if err != nil {
			t.Fatal(err)
		}
		from, to := job.Pair[0], job.Pair[1]
		if g.State().Find(from.Ref.ID) == nil {
			from, to = to, from
		}
		if _, err := g.Run(context.Background(), w.by(upgrade(from, to))); err != nil {
			t.Fatal(err)
		}
		w.must(g.Close())
	}
}
