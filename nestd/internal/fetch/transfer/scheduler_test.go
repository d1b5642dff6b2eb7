package transfer

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"stork/repo"
)

// method is a way to get bytes that a test writes down.
type method struct {
	name  string
	fetch func(ctx context.Context, job *Job) error
}

func (m method) Name() string                              { return m.name }
func (m method) Fetch(ctx context.Context, job *Job) error { return m.fetch(ctx, job) }

// sends claims what is missing and writes it out of text.
func sends(name string, text []byte, after time.Duration) method {
	return method{name, func(ctx context.Context, job *Job) error {
		source := Source{name, "x"}
		for !job.Blob.Banned(source) {
			c, err := job.Blob.Claim(ctx, source, 64<<10)
			if c == nil {
				return err
			}
			time.Sleep(after)
			_, err = c.Write(text[c.Range().From:c.Range().To])
			c.Release()
			if err != nil && !errors.Is(err, ErrTaken) {
				return err
			}
		}
		return ErrMismatch
	}}
}

// hangs brings the first n bytes of text and no more.
func hangs(name string, text []byte, n int) method {
	return method{name, func(ctx context.Context, job *Job) error {
		if err := job.Blob.WriteAt(Source{name, "x"}, text[:n], 0); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	}}
}

func fails(name string, err error) method {
	return method{name, func(context.Context, *Job) error { return err }}
}

func scheduled(t *testing.T, methods ...Method) *Scheduler {
	t.Helper()
	o := Options{Spool: spoolOf(t, t.TempDir()), Progress: 1 << 10, Jobs: 2, Limits: NewLimits(Schedule{}), Log: slog.New(slog.DiscardHandler)}
	for _, m := range methods {
		o.Lanes = append(o.Lanes, Lane{Method: m, Stall: 300 * time.Millisecond})
	}
	return NewScheduler(o)
}

// TestScheduler wants the next method to do what one before can not.
func TestScheduler(t *testing.T) {
	t.Parallel()
	text := content(1<<20, 1)
	wrong := content(1<<20, 2)
	pieces := piecesOf(text, 64<<10)
	errRefused := errors.New("refused")
	for name, test := range map[string]struct {
		methods []Method
		pieces  *Pieces
		want    error
	}{
		"one":                    {methods: []Method{sends("a", text, 0)}},
		"first fails":            {methods: []Method{fails("a", errRefused), sends("b", text, 0)}},
		"first hangs":            {methods: []Method{hangs("a", text, 1<<19), sends("b", text, 0)}},
		"first hangs at the end": {methods: []Method{hangs("a", text, 1<<20-1), sends("b", text, 0)}},
		"first is wrong":         {methods: []Method{sends("a", wrong, 0), sends("b", text, 0)}},
		"first is wrong, pieces": {methods: []Method{sends("a", wrong, 0), sends("b", text, 0)}, pieces: pieces},
		"all fail":               {methods: []Method{fails("a", errRefused), fails("b", ErrAbsent)}, want: ErrAbsent},
		"all hang":               {methods: []Method{hangs("a", text, 100), hangs("b", text, 1000)}, want: ErrStalled},
		"all are wrong":          {methods: []Method{sends("a", wrong, 0), sends("b", wrong, 0)}, want: ErrMismatch},
		"both are wrong, pieces": {methods: []Method{sends("a", wrong, 0), sends("b", wrong, 0)}, pieces: pieces, want: ErrMismatch},
		"nobody gives a reason":  {methods: []Method{fails("a", nil)}, want: ErrStalled},
		"there are none":         {want: errNoMethod},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := scheduled(t, test.methods...)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			got, err := s.Fetch(ctx, Order{Object: repo.ObjectOf(text), Pieces: test.pieces}, nil)
			if !errors.Is(err, test.want) || (err == nil) != (test.want == nil) {
				t.Fatalf("got %+v, %v, want %v", got, err, test.want)
			}
			if err == nil && got.Stored != int64(len(text)) {
				t.Errorf("%d bytes are stored", got.Stored)
			}
		})
	}
}

// TestTwoAtOnce wants one transfer for two who ask, which outlives the first.
func TestTwoAtOnce(t *testing.T) {
	t.Parallel()
	text := content(1<<20, 1)
	var calls atomic.Int64
	inner := sends("a", text, 20*time.Millisecond)
	s := scheduled(t, method{"a", func(ctx context.Context, job *Job) error {
		calls.Add(1)
		return inner.Fetch(ctx, job)
	}})
	o := Order{Object: repo.ObjectOf(text)}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	gone := make(chan error)
	go func() {
		_, err := s.Fetch(short, o, nil)
		gone <- err
	}()
	time.Sleep(10 * time.Millisecond)
	told := 0
	got, err := s.Fetch(t.Context(), o, func(Progress) { told++ })
	if err != nil || got.Received != int64(len(text)) || calls.Load() != 1 {
		t.Errorf("%+v, %v, %d calls", got, err, calls.Load())
	}
	if err := <-gone; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the first: %v", err)
	}
	if told == 0 {
		t.Error("was told of no progress")
	}
}

// TestQueue wants a person to wait for no background.
func TestQueue(t *testing.T) {
	t.Parallel()
	q := newQueue(1)
	first, second, urgent := q.place(Background), q.place(Background), q.place(Interactive)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	must(t, first.wait(t.Context()))
	must(t, urgent.wait(t.Context()))
	third := q.place(Interactive)
	if err := second.wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the second was let in: %v", err)
	}
	urgent.leave()
	must(t, third.wait(t.Context()))
	third.leave()
	fourth := q.place(Background)
	fourth.raise(Interactive)
	must(t, fourth.wait(t.Context()))
	fourth.leave()
	first.leave()
	if q.free[Background] != 1 || q.free[Interactive] != 1 || len(q.waiting) != 0 {
		t.Errorf("left: %+v", q)
	}
}

// TestStallsOnlyWhileAwake wants the time in which the whole process was
// stopped not to count.
func TestStallsOnlyWhileAwake(t *testing.T) {
	t.Parallel()
	s := scheduled(t, method{name: "a"})
	b := opened(t, s.options.Spool, Order{Object: repo.Object{Size: 10}})
	defer b.close()
	now := time.Now()
	a := &attempt{
		transfer: &transfer{scheduler: s}, blob: b, lanes: s.options.Lanes, started: 1, mark: now,
		reasons: make([]error, 1), over: make([]bool, 1),
	}
	for step, want := range []error{nil, nil, nil, nil, ErrStalled} {
		if step == 2 {
			now = now.Add(time.Hour)
		}
		now = now.Add(tick - time.Millisecond)
		if step == 4 {
			now = now.Add(tick)
		}
		if err := a.watch(t.Context(), now); !errors.Is(err, want) {
			t.Fatalf("step %d: %v, want %v", step, err, want)
		}
	}
}
