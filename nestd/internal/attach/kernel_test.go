package attach

import (
	"context"
	"errors"
	"strconv"
	"testing"
)

func itoa(n int) string { return strconv.Itoa(n) }

func TestCheckRelease(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		release string
		ok      bool
	}{
		{"6.8.0", true}, {"6.8", true}, {"6.8-rc1", true}, {"6.18.44-fc", true}, {"7.0.0", true}, {"10.1", true},
		{"6.7.12", false}, {"5.15.0-100-generic", false}, {"", false}, {"6", false}, {"x.y", false}, {"6.", false},
	} {
		err := checkRelease(c.release)
		if (err == nil) != c.ok {
			t.Errorf("%q: got error %v, want supported %v", c.release, err, c.ok)
		}
		if err != nil && !errors.Is(err, ErrUnsupported) {
			t.Errorf("%q: error %v does not wrap ErrUnsupported", c.release, err)
		}
	}
	if err := CheckKernel(); err != nil {
		t.Errorf("this kernel: %v", err)
	}
}

func TestMapsRoot(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		want bool
	}{
		{"         0          0          1\n", true},
		{"0 0 4294967295\n", true},
		{"         0     100000      65536\n", false},
		{"1000 0 1\n", false},
		{"0 1000 1\n1 100000 65536\n", false},
		{"0 0 0\n", false},
		{"", false},
		{"0 0\n", false},
	} {
		if got := mapsRoot(c.text); got != c.want {
			t.Errorf("mapsRoot(%q) = %v, want %v", c.text, got, c.want)
		}
	}
}

func TestKeyedLocks(t *testing.T) {
	t.Parallel()
	k := newKeyedLocks()
	unlockA, err := k.lock(context.Background(), "a")
	if err != nil {
		t.Fatal(err)
	}
	unlockB, err := k.lock(context.Background(), "b")
	if err != nil {
		t.Fatal(err)
	}
	unlockB()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := k.lock(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want canceled", err)
	}
	unlockA()
	if len(k.locks) != 0 {
		t.Errorf("%d locks kept", len(k.locks))
	}
}
