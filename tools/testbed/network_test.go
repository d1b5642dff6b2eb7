package testbed

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"stork/tools/testbed/box"
)

const serveVariable = "STORK_TEST_SERVE"

// TestServe is a machine's server; run by TestRate.
func TestServe(t *testing.T) {
	address := os.Getenv(serveVariable)
	if address == "" {
		t.Skip("run by TestRate")
	}
	must(t, http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, 1<<20)) // whoever asked may have gone
	})))
}

// TestRate moves a megabyte between two machines, over links with and without
// a limit.
func TestRate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rate     string
		min, max time.Duration
	}{
		{"", 0, 30 * time.Second},
		{"8mbit", 600 * time.Millisecond, 30 * time.Second}, // 1 MB/s after the first 256 KiB
	} {
		t.Run("rate "+c.rate, func(t *testing.T) {
			tb := bare(t, Options{Rate: c.rate}, 2, 0)
			self, err := os.Executable()
			must(t, err)
			server, _ := addresses(0)
			address := server.Addr().String() + ":8000"
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan struct{})
			go func() {
				defer close(done)
				_, _ = tb.Exec(ctx, "n1", Command{Args: []string{self, "-test.run=^TestServe$"}, Env: []string{serveVariable + "=" + address}})
			}()
			defer func() { cancel(); <-done }()
			get := func(ctx context.Context) error {
				answer, err := tb.ask(ctx, "n2", box.Request{Get: "http://" + address + "/"})
				if err == nil && len(answer.Body) != 1<<20 {
					err = fmt.Errorf("got %d bytes", len(answer.Body))
				}
				return err
			}
			must(t, wait(ctx, "the server", get))
			time.Sleep(400 * time.Millisecond) // the bucket fills up
			began := time.Now()
			must(t, get(ctx))
			if took := time.Since(began); took < c.min || took > c.max {
				t.Errorf("a megabyte took %v, want %v to %v", took, c.min, c.max)
			}
		})
	}
}

func TestParseRate(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]uint32{"": 0, "8kbit": 1000, "100mbit": 12500000, "1gbit": 125000000, "1.5mbit": 187500, "80000bit": 10000, "1GBit": 125000000} {
		if got, err := ParseRate(text); err != nil || got != want {
			t.Errorf("ParseRate(%q) = %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"fast", "100", "-1mbit", "0mbit", "nanmbit", "1e300mbit", "mbit", "100mbps", "35gbit"} {
		if got, err := ParseRate(text); err == nil {
			t.Errorf("ParseRate(%q) = %d, want an error", text, got)
		}
	}
}

// TestNoUserNamespace: such guests share the host's users.
func TestNoUserNamespace(t *testing.T) {
	t.Parallel()
	tb := bare(t, Options{NoUserNS: true}, 1, 1)
	if got, _ := sh(t, tb, "n1g1", "tr -s ' ' < /proc/self/uid_map; stork hi; stat -c %U /etc/passwd; cat /etc/shadow | head -1"); got !=
		"0 0 4294967295\nstork hi\nroot\nroot:*:19000:0:99999:7:::" && got != " 0 0 4294967295\nstork hi\nroot\nroot:*:19000:0:99999:7:::" {
		t.Errorf("guest says %q", got)
	}
}

// TestRootfs: a tree of one's own takes the place of the host's root.
func TestRootfs(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	script := `for p in sh cat ls; do f=$(readlink -f $(command -v $p)); mkdir -p $R/bin; cp $f $R/bin/$p
for l in $(ldd $f | grep -o '/[^ )]*'); do mkdir -p $R$(dirname $l); cp -L $l $R$l; done; done; echo own > $R/which`
	if out, err := exec.Command("sh", "-c", "R="+root+"\n"+script).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	tb := bare(t, Options{Rootfs: root}, 1, 1)
	got, status := sh(t, tb, "n1g1", "cat /which; echo x > /mine; cat /mine; ls /etc 2>&1; exit 0")
	if status != 0 || !strings.HasPrefix(got, "own\nx") || strings.Contains(got, "passwd") {
		t.Errorf("status %d: guest says %q", status, got)
	}
	if _, err := os.Stat(root + "/mine"); err == nil {
		t.Error("the guest wrote into the tree")
	}
}
