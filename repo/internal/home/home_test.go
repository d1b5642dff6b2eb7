package home_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stork/repo/durable"
	"stork/repo/internal/home"
)

var errFault = errors.New("injected")

// failAt strikes the n-th step and all that follow: the process died there.
func failAt(n int64) (durable.Fault, *atomic.Int64) {
	steps := new(atomic.Int64)
	return func(durable.Step, string) (error, error) {
		if steps.Add(1) >= n {
			return errFault, nil
		}
		return nil, nil
	}, steps
}

func newHome(t *testing.T) *home.Home {
	t.Helper()
	dir := t.TempDir()
	h, err := home.Init(home.InitOptions{Dir: filepath.Join(dir, "repo"), Offline: filepath.Join(dir, "keys")})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestInitFaults dies at every step of init: there is a whole repository
// afterwards, or none.
func TestInitFaults(t *testing.T) {
	t.Parallel()
	for n := int64(1); ; n++ {
		dir := t.TempDir()
		fault, steps := failAt(n)
		_, err := home.Init(home.InitOptions{Dir: filepath.Join(dir, "repo"), Offline: filepath.Join(dir, "keys"), Disk: durable.Disk{Fault: fault}})
		h, openErr := home.Open(filepath.Join(dir, "repo"), durable.Disk{}, nil)
		if openErr == nil {
			if _, err := h.Metadata(); err != nil {
				t.Errorf("step %d: half a repository: %v", n, err)
			}
		} else if !errors.Is(openErr, home.ErrNone) {
			t.Errorf("step %d: %v", n, openErr)
		}
		if steps.Load() < n {
			if err != nil || openErr != nil {
				t.Errorf("without a fault: %v, %v", err, openErr)
			}
			return
		}
		if err == nil {
			t.Errorf("step %d failed, and init says nothing", n)
		}
	}
}

// TestNestFaults dies at every step of adding a nest: the list is the old one
// or the new one.
func TestNestFaults(t *testing.T) {
	t.Parallel()
	good := newHome(t)
	if err := good.AddNest(home.NestKey{1}, "one"); err != nil {
		t.Fatal(err)
	}
	for n := int64(1); ; n++ {
		fault, steps := failAt(n)
		h, err := home.Open(good.Dir(), durable.Disk{Fault: fault}, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = h.AddNest(home.NestKey{2}, "two")
		nests, readErr := good.Nests()
		if readErr != nil || len(nests) < 1 || len(nests) > 2 || nests[0].Name != "one" {
			t.Errorf("step %d: %+v, %v", n, nests, readErr)
		}
		if steps.Load() < n {
			if err != nil || len(nests) != 2 {
				t.Errorf("without a fault: %d nests, %v", len(nests), err)
			}
			return
		}
		if err := good.RemoveNest(home.NestKey{2}); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
}

// TestLock lets many goroutines, each with a lock of its own as processes
// have, change what only one may.
func TestLock(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	var wait sync.WaitGroup
	inside := new(atomic.Int64)
	for range 8 {
		wait.Go(func() {
			unlock, err := h.Lock(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			if inside.Add(1) != 1 {
				t.Error("two hold the lock")
			}
			time.Sleep(time.Millisecond)
			inside.Add(-1)
			unlock()
		})
	}
	wait.Wait()
	unlock, err := h.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := h.Lock(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a lock that is held is waited for beyond the context: %v", err)
	}
}

func TestDamagedSettings(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	for _, bad := range []string{"", "{}", `{"format":2}`, `{"format":1,"unknown":1}`, `{"format":1,"root":"sha256:00"}`} {
		if err := os.WriteFile(filepath.Join(h.Dir(), "repository.json"), []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := home.Open(h.Dir(), durable.Disk{}, nil); err == nil || errors.Is(err, home.ErrNone) {
			t.Errorf("settings %q: %v", bad, err)
		}
	}
}

func FuzzParseNestKey(f *testing.F) {
	f.Add("ed25519:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	f.Add("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	f.Add("ed25519:")
	f.Fuzz(func(t *testing.T, s string) {
		key, err := home.ParseNestKey(s)
		if err != nil {
			return
		}
		again, err := home.ParseNestKey(key.String())
		if err != nil || again != key {
			t.Errorf("%q became %q, which is read as %v, %v", s, key, again, err)
		}
	})
}
