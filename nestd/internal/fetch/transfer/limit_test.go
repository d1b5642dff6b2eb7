package transfer

import (
	"context"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"stork/repo"
)

func TestSchedule(t *testing.T) {
	t.Parallel()
	s := Schedule{
		Rates: Rates{Down: 1 << 20},
		Hours: []Hours{{From: "08:00", Until: "18:30", Rates: Rates{Down: 2048, Up: 4096}}, {From: "22:00", Until: "06:00"}},
	}
	must(t, s.Check())
	for at, want := range map[string]Rates{
		"07:59": {Down: 1 << 20}, "08:00": {2048, 4096}, "18:29": {2048, 4096}, "18:30": {Down: 1 << 20},
		"21:59": {Down: 1 << 20}, "22:00": {}, "23:59": {}, "00:00": {}, "05:59": {}, "06:00": {Down: 1 << 20},
	} {
		now, err := time.Parse("15:04", at)
		must(t, err)
		if got := s.at(now); got != want {
			t.Errorf("at %s: %+v, want %+v", at, got, want)
		}
	}
	l := NewLimits(s)
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.Local)
	l.set(noon)
	if l.Down().Limit() != 2048 || l.Up().Limit() != 4096 {
		t.Errorf("at noon: %v down, %v up", l.Down().Limit(), l.Up().Limit())
	}
	l.set(noon.Add(11 * time.Hour))
	if l.Down().Limit() != rate.Inf || l.Up().Limit() != rate.Inf {
		t.Errorf("at night: %v down, %v up", l.Down().Limit(), l.Up().Limit())
	}
	for _, bad := range []Schedule{
		{Rates: Rates{Down: -1}}, {Rates: Rates{Up: 10}}, {Hours: []Hours{{From: "8", Until: "9"}}},
		{Hours: []Hours{{From: "08:00", Until: "08:00"}}}, {Hours: []Hours{{From: "08:00", Until: "24:00"}}},
		{Hours: []Hours{{From: "08:00", Until: "09:00", Rates: Rates{Down: 1}}}}, {Hours: make([]Hours, maxHours+1)},
	} {
		if bad.Check() == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

// TestPace wants a person to be served before the background, which goes on
// when nothing comes for that person any more.
func TestPace(t *testing.T) {
	t.Parallel()
	l := NewLimits(Schedule{})
	ctx := t.Context()
	begin := time.Now()
	for range 100 {
		must(t, l.Pace(ctx, Background, PaceBytes))
	}
	if took := time.Since(begin); took > time.Second/2 {
		t.Errorf("without limits it took %v", took)
	}
	must(t, l.Pace(ctx, Interactive, 1))
	begin = time.Now()
	must(t, l.Pace(ctx, Background, PaceBytes)) // the burst
	must(t, l.Pace(ctx, Background, trickle/4))
	if took := time.Since(begin); took < 200*time.Millisecond || took > 2*time.Second {
		t.Errorf("beside a person it took %v", took)
	}
	time.Sleep(urgency)
	begin = time.Now()
	must(t, l.Pace(ctx, Background, PaceBytes))
	if took := time.Since(begin); took > time.Second/2 {
		t.Errorf("after the person it took %v", took)
	}
}

// TestLimitHolds wants a limit to be held, and not to look like a stall.
func TestLimitHolds(t *testing.T) {
	t.Parallel()
	text := content(1<<20, 1)
	inner := sends("a", text, 0)
	s := scheduled(t, method{"a", func(ctx context.Context, job *Job) error {
		for range 16 {
			must(t, job.Pace(ctx, 64<<10))
		}
		return inner.Fetch(ctx, job)
	}})
	s.options.Limits = NewLimits(Schedule{Rates: Rates{Down: 512 << 10}})
	begin := time.Now()
	_, err := s.Fetch(t.Context(), Order{Object: repo.ObjectOf(text)}, nil)
	must(t, err)
	if took := time.Since(begin); took < time.Second || took > 4*time.Second {
		t.Errorf("1 MiB at 512 KiB a second took %v", took)
	}
}
