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

func TestRootOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text   string
		want   uint32
		mapped bool
	}{
		{"         0          0          1\n", 0, true},
		{"0 0 4294967295\n", 0, true},
		{"         0     100000      65536\n", 100000, true},
		{"1000 0 1\n", 0, false},
		{"1 100000 65536\n0 1000 1\n", 1000, true},
		{"0 4294967295 1\n", 0, false},
		{"0 -1 1\n", 0, false},
		{"0 0 0\n", 0, false},
		{"", 0, false},
		{"0 0\n", 0, false},
	} {
		if got, mapped := rootOf(c.text); mapped != c.mapped || mapped && got != c.want {
			t.Errorf("rootOf(%q) = %d, %v, want %d, %v", c.text, got, mapped, c.want, c.mapped)
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
