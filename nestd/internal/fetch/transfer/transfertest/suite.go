package transfertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stork/nestd/internal/fetch/transfer"
	"stork/repo"
)

// Fault is how those behave who have the blob. What a fault means for a
// method's own protocol is for its tests to say, as near to this as can be.
type Fault string

// The faults.
const (
	Healthy     Fault = ""
	Slow        Fault = "slow"        // nothing is wrong but the rate: about [SlowRate]
	Interrupted Fault = "interrupted" // breaks off again and again, and is back at once
	Corrupt     Fault = "corrupt"     // sends other bytes, as many as there should be
	Short       Fault = "short"       // has less, and says so
	Endless     Fault = "endless"     // sends other bytes, and goes on after the last
	Drip        Fault = "drip"        // sends nearly nothing, for ever
	Vanishing   Fault = "vanishing"   // is gone for good when about 99 % are sent
	Absent      Fault = "absent"      // has no such blob
)

// SlowRate is how fast a [Slow] source sends, in bytes a second.
const SlowRate = 4 << 20

// Subject is a method that is tested.
type Subject struct {
	// Serve starts those who have text, until the test ends. What it returns
	// leads Method and the order to them. Pieces of the order are kept if the
	// suite sets none.
	Serve func(t testing.TB, text []byte, fault Fault) (config string, order transfer.Order)

	// MinSize is the size in bytes of the smallest blob that the method takes.
	MinSize int

	// Method makes the method. It is called in this process and in others. It
	// has the patience of a test: it gives up a source within two seconds.
	Method func(config string) (transfer.Method, error)
}

// How long there may be no progress: briefly where none can be expected, and
// else so long that a busy machine is not taken for a dead source.
const (
	brief = 1500 * time.Millisecond
	long  = 30 * time.Second
)

// stall is how long a source with the fault may make no progress. Of damage
// the suite wants to hear, from methods that do not wait for better sources.
func stall(fault Fault, o transfer.Order) time.Duration {
	switch fault {
	case Healthy, Slow, Interrupted:
		return long
	case Corrupt:
		if o.Pieces == nil {
			return long
		}
	}
	return brief
}

// Run runs the suite. It must be called by a test function directly and
// first, for that function is also what runs in child processes.
func Run(t *testing.T, s Subject) {
	if request := os.Getenv(childVariable); request != "" {
		beChild(t, s, request)
		return
	}
	t.Parallel()
	for _, size := range []int{0, 1, 1000, 50 << 10, 3<<20 + 17} {
		if size < s.MinSize {
			continue
		}
		t.Run(fmt.Sprintf("%d bytes", size), func(t *testing.T) { s.whole(t, size) })
	}
	for _, fault := range []Fault{Interrupted, Slow} {
		t.Run(string(fault), func(t *testing.T) { s.survives(t, fault) })
	}
	for _, fault := range []Fault{Corrupt, Short, Endless, Drip, Vanishing, Absent} {
		t.Run(string(fault), func(t *testing.T) { s.fails(t, fault) })
		t.Run(string(fault)+", and another method", func(t *testing.T) { s.joined(t, fault) })
	}
	t.Run("cancelled at every tenth", s.cancelled)
	t.Run("killed at every tenth", s.killed)
	t.Run("two at once", s.twice)
	t.Run("disk full", s.diskFull)
}

// world is one blob on its way.
type world struct {
	t     *testing.T
	text  []byte
	order transfer.Order
	dir   string // the spool
	lanes []transfer.Lane

	config string
}

// world serves a blob of that size, and makes a spool for it.
func (s Subject) world(t *testing.T, size int, fault Fault) *world {
	t.Helper()
	t.Parallel()
	w := &world{t: t, text: Content(size, 1), dir: t.TempDir()}
	w.config, w.order = s.Serve(t, w.text, fault)
	w.order.Object = repo.ObjectOf(w.text)
	method, err := s.Method(w.config)
	if err != nil {
		t.Fatal(err)
	}
	w.lanes = []transfer.Lane{{Method: method, Stall: stall(fault, w.order)}}
	return w
}

// Content returns bytes that look like a package's, the same for the same
// seed.
func Content(size int, seed byte) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b) // never fails
	return b
}

func (w *world) scheduler() *transfer.Scheduler {
	w.t.Helper()
	spool, err := os.OpenRoot(w.dir)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := spool.Close(); err != nil {
			w.t.Error(err)
		}
	})
	return transfer.NewScheduler(transfer.Options{
		Spool: spool, Lanes: w.lanes, Progress: 4 << 10, Jobs: 4, Limits: transfer.NewLimits(transfer.Schedule{}), Log: slog.New(slog.NewTextHandler(w.t.Output(), nil)),
	})
}

// patience is how long anything in this suite may take.
const patience = 2 * time.Minute

func (w *world) fetch() (transfer.Progress, error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	got, err := w.scheduler().Fetch(ctx, w.order, nil)
	if ctx.Err() != nil {
		w.t.Fatalf("took more than %v: %+v, %v", patience, got, err)
	}
	return got, err
}

// check wants the blob in the spool, and nothing else there.
func (w *world) check() {
	w.t.Helper()
	got, err := os.ReadFile(filepath.Join(w.dir, w.order.Object.Digest.Hex()))
	if err != nil || !bytes.Equal(got, w.text) {
		w.t.Errorf("%d bytes of %d are in the spool, %v", len(got), len(w.text), err)
	}
	entries, err := os.ReadDir(w.dir)
	if err != nil || len(entries) != 1 {
		w.t.Errorf("the spool has %v, %v", entries, err)
	}
}

func (s Subject) whole(t *testing.T, size int) {
	w := s.world(t, size, Healthy)
	got, err := w.fetch()
	if err != nil {
		t.Fatal(err)
	}
	w.check()
	if got.Stored != int64(size) || got.Received < int64(size) {
		t.Errorf("stored %d and received %d of %d bytes", got.Stored, got.Received, size)
	}
	again, err := w.fetch()
	if err != nil || again.Received != 0 {
		t.Errorf("what is there was fetched again: %+v, %v", again, err)
	}
}

func (s Subject) survives(t *testing.T, fault Fault) {
	w := s.world(t, 8<<20, fault)
	got, err := w.fetch()
	if err != nil {
		t.Fatal(err)
	}
	w.check()
	if limit := got.Stored + got.Stored/10; got.Received > limit {
		t.Errorf("received %d bytes of %d", got.Received, got.Stored)
	}
}

// fails wants a reason, soon, when nobody has what is right.
func (s Subject) fails(t *testing.T, fault Fault) {
	w := s.world(t, 2<<20, fault)
	got, err := w.fetch()
	if err == nil {
		t.Fatalf("was taken: %+v", got)
	}
	if fault == Corrupt && w.order.Pieces == nil && !errors.Is(err, transfer.ErrMismatch) {
		t.Errorf("damage is not seen: %v", err)
	}
	if limit := int64(8 * len(w.text)); got.Received > limit {
		t.Errorf("%d bytes were received of a blob of %d", got.Received, len(w.text))
	}
}

// joined wants another method to end what the tested one can not.
func (s Subject) joined(t *testing.T, fault Fault) {
	w := s.world(t, 2<<20, fault)
	w.lanes = append(w.lanes, transfer.Lane{Method: memory{w.text}, Stall: long})
	got, err := w.fetch()
	if err != nil {
		t.Fatal(err)
	}
	w.check()
	for _, entry := range got.Ledger {
		if fault == Vanishing && entry.Method == memoryName && entry.Used > int64(len(w.text)/5) {
			t.Errorf("%d bytes came again from somebody else", entry.Used)
		}
	}
}

// cancelled ends the transfer whenever another tenth is there, and begins
// again as a new process would.
func (s Subject) cancelled(t *testing.T) {
	w := s.world(t, 8<<20, Slow)
	var received int64
	for step := int64(1); step <= 10; step++ {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		got, err := w.scheduler().Fetch(ctx, w.order, func(p transfer.Progress) {
			if p.Stored >= step*w.order.Object.Size/10 && step < 10 {
				cancel()
			}
		})
		cancel()
		received += got.Received
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	w.check()
	if limit := w.order.Object.Size * 102 / 100; received > limit {
		t.Errorf("%d bytes were received of %d", received, w.order.Object.Size)
	}
}

// twice wants one transfer for two who want the same.
func (s Subject) twice(t *testing.T) {
	w := s.world(t, 4<<20, Slow)
	scheduler := w.scheduler()
	type outcome struct {
		got transfer.Progress
		err error
	}
	outcomes := make(chan outcome)
	for range 2 {
		go func() {
			got, err := scheduler.Fetch(t.Context(), w.order, nil)
			outcomes <- outcome{got, err}
		}()
	}
	for range 2 {
		o := <-outcomes
		if limit := w.order.Object.Size * 102 / 100; o.err != nil || o.got.Received > limit {
			t.Errorf("%+v, %v", o.got, o.err)
		}
	}
	w.check()
}

// diskFull has a spool of 1 MiB.
func (s Subject) diskFull(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root, and in CI everything is there")
		}
		t.Skip("needs root")
	}
	w := s.world(t, 3<<20, Healthy)
	if err := unix.Mount("tmpfs", w.dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(w.dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if got, err := w.fetch(); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("%+v, %v, want %v", got, err, unix.ENOSPC)
	}
}

// memory is a method that has the blob.
type memory struct{ text []byte }

const memoryName = "memory"

// Name implements [transfer.Method].
func (memory) Name() string { return memoryName }

// Fetch implements [transfer.Method].
func (m memory) Fetch(ctx context.Context, job *transfer.Job) error {
	for {
		claim, err := job.Blob.Claim(ctx, transfer.Source{Method: memoryName}, 64<<10)
		if claim == nil {
			return err
		}
		r := claim.Range()
		_, err = claim.Write(m.text[r.From:r.To])
		claim.Release()
		if err != nil && !errors.Is(err, transfer.ErrTaken) {
			return err
		}
	}
}
