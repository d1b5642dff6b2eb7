package transfer

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Rates are limits in bytes a second; 0 is none.
type Rates struct {
	Down int64 `json:"down,omitempty"`
	Up   int64 `json:"up,omitempty"`
}

// Hours are rates for a part of each day, in the host's time zone. One that
// ends before it begins goes over midnight.
type Hours struct {
	From  string `json:"from"` // as 08:00
	Until string `json:"until"`
	Rates
}

// Schedule says how much of the network may be used when.
type Schedule struct {
	Rates         // outside of all Hours
	Hours []Hours `json:"hours,omitempty"` // the first that fits counts
}

// Check refuses what can not be meant.
func (s *Schedule) Check() error {
	if err := s.Rates.check(); err != nil {
		return err
	}
	if len(s.Hours) > maxHours {
		return fmt.Errorf("%d parts of a day are too many", len(s.Hours))
	}
	for _, h := range s.Hours {
		if err := h.check(); err != nil {
			return err
		}
		from, err := minute(h.From)
		if err != nil {
			return err
		}
		until, err := minute(h.Until)
		if err != nil {
			return err
		}
		if from == until {
			return fmt.Errorf("nothing lies between %s and %s", h.From, h.Until)
		}
	}
	return nil
}

const maxHours = 48

// minRate is the least that leaves connections alive, in bytes a second.
const minRate = 1 << 10

func (r Rates) check() error {
	for _, n := range []int64{r.Down, r.Up} {
		if n < 0 || n > 0 && n < minRate {
			return fmt.Errorf("a limit of %d bytes a second is not possible: %d is the least, and 0 is none", n, minRate)
		}
	}
	return nil
}

// minute reads a time of day.
func minute(text string) (int, error) {
	t, err := time.Parse("15:04", text)
	if err != nil {
		return 0, fmt.Errorf("%q is no time of day such as 08:00", text)
	}
	return t.Hour()*60 + t.Minute(), nil
}

// at returns what holds at a time. The schedule was checked.
func (s *Schedule) at(now time.Time) Rates {
	m := now.Hour()*60 + now.Minute()
	for _, h := range s.Hours {
		from, _ := minute(h.From)
		until, _ := minute(h.Until)
		if from < until && m >= from && m < until || from > until && (m >= from || m < until) {
			return h.Rates
		}
	}
	return s.Rates
}

// Limits hold all transfers of a nest to its schedule. Their methods may be
// called from several goroutines.
type Limits struct {
	schedule Schedule
	down, up *rate.Limiter
	trickle  *rate.Limiter
	urgent   atomic.Int64 // when bytes last came that a person waits for, in nanoseconds
}

// For so long after bytes for a person have come, background transfers get so
// many bytes a second, together: enough to keep their connections.
const (
	urgency = time.Second
	trickle = 64 << 10
)

// NewLimits returns the limits of a schedule that was checked, as they are
// now; Run keeps them right.
func NewLimits(s Schedule) *Limits {
	l := &Limits{
		schedule: s, trickle: rate.NewLimiter(trickle, PaceBytes),
		down: rate.NewLimiter(rate.Inf, PaceBytes), up: rate.NewLimiter(rate.Inf, PaceBytes),
	}
	l.set(time.Now())
	return l
}

// Run follows the schedule until ctx ends.
func (l *Limits) Run(ctx context.Context) {
	ticker := time.NewTicker(10 * time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			l.set(now)
		}
	}
}

func (l *Limits) set(now time.Time) {
	rates := l.schedule.at(now)
	for limiter, n := range map[*rate.Limiter]int64{l.down: rates.Down, l.up: rates.Up} {
		limit := rate.Inf
		if n > 0 {
			limit = rate.Limit(n)
		}
		if limiter.Limit() != limit {
			limiter.SetLimit(limit)
		}
	}
}

// Down limits what is received, in bytes; its burst is [PaceBytes].
func (l *Limits) Down() *rate.Limiter { return l.down }

// Up limits what is sent.
func (l *Limits) Up() *rate.Limiter { return l.up }

// hurry says that a person waits for what comes now.
func (l *Limits) hurry() { l.urgent.Store(time.Now().UnixNano()) }

// Pace waits until n bytes, at most [PaceBytes], may be received for somebody of that priority.
func (l *Limits) Pace(ctx context.Context, p Priority, n int) error {
	if p >= Interactive {
		l.hurry()
	} else if time.Since(time.Unix(0, l.urgent.Load())) < urgency {
		if err := l.trickle.WaitN(ctx, n); err != nil {
			return err
		}
	}
	return l.down.WaitN(ctx, n)
}
