package server

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestTurns: so many have their turn; who comes then waits for one to end, be
// it by itself, and not for ever.
func TestTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns(1)
		closed := make(chan struct{})
		took := func() (end func(), waited time.Duration) {
			began := time.Now()
			end = turns.take(closed)
			return end, time.Since(began)
		}
		var ends []func()
		for range turnsEach {
			end, waited := took()
			if waited != 0 {
				t.Errorf("the first waited %v", waited)
			}
			ends = append(ends, end)
		}
		time.AfterFunc(100*time.Millisecond, ends[0])
		if _, waited := took(); waited != 100*time.Millisecond {
			t.Errorf("waited %v for the end of a turn", waited)
		}
		// The others give none back: they end by themselves.
		if _, waited := took(); waited != turnLength-100*time.Millisecond {
			t.Errorf("waited %v for a turn that is over", waited)
		}
		for _, end := range ends {
			end() // once more, or late
		}
		time.Sleep(2 * turnLength)
		if n := len(turns.places); n != 0 {
			t.Errorf("%d turns are left", n)
		}
		for range turnsEach {
			turns.places <- struct{}{} // as if they never ended
		}
		if _, waited := took(); waited != maxTurnWait {
			t.Errorf("waited %v among those who do not end", waited)
		}
		time.AfterFunc(time.Second, func() { close(closed) })
		if _, waited := took(); waited != time.Second {
			t.Errorf("waited %v for the end of the socket", waited)
		}
	})
}
