package durable

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

const slotsMax = 1 << 20

func slotsAt(t *testing.T) (path string, open func(Disk) *Slots) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "doc.slots")
	return path, func(d Disk) *Slots { return &Slots{Disk: d, Path: path, Perm: 0o640, Max: slotsMax} }
}

// read is what another process finds; "" for none.
func (s *Slots) text(t *testing.T) string {
	t.Helper()
	b, err := (&Slots{Path: s.Path, Max: slotsMax}).Read()
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestSlots(t *testing.T) {
	t.Parallel()
	path, open := slotsAt(t)
	s := open(Disk{})
	if err := errors.Join(s.Clear(), s.Delete()); err != nil {
		t.Fatalf("nothing to clear: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("clearing made a file: %v", err)
	}
	for n, want := range []string{"one", "two", strings.Repeat("long ", 9000), "three", "", "four", strings.Repeat("x", slotUnit)} {
		if n%2 == 1 {
			s = open(Disk{}) // another process
		}
		if err := s.Write([]byte(want)); err != nil {
			t.Fatal(err)
		}
		if got := s.text(t); got != want {
			t.Fatalf("version %d: %.20q, want %.20q", n, got, want)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o640 || info.Size()%(2*slotUnit) != 0 {
		t.Errorf("%v, %v", info, err)
	}
	if err := s.Clear(); err != nil || s.text(t) != "" {
		t.Errorf("cleared: %v, %q", err, s.text(t))
	}
}

// TestSlotsInPlace: once there is room, a write takes two steps and changes
// no name.
func TestSlotsInPlace(t *testing.T) {
	t.Parallel()
	_, open := slotsAt(t)
	if err := open(Disk{}).Write([]byte("first")); err != nil {
		t.Fatal(err)
	}
	var steps []Step
	s := open(Disk{Fault: func(step Step, _ string) (error, error) { steps = append(steps, step); return nil, nil }})
	if err := s.Write([]byte("second")); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(steps); got != "[write sync]" {
		t.Errorf("steps %s", got)
	}
}

// TestSlotsFaults fails each step: the old version is there or the new.
func TestSlotsFaults(t *testing.T) {
	t.Parallel()
	for _, next := range []string{"new", strings.Repeat("new", slotUnit)} {
		for _, after := range []bool{false, true} {
			for n := 0; ; n++ {
				_, open := slotsAt(t)
				if err := open(Disk{}).Write([]byte("old")); err != nil {
					t.Fatal(err)
				}
				disk, fired := failAt(n, after)
				s := open(disk)
				err := s.Write([]byte(next))
				if got := s.text(t); got != "old" && got != next {
					t.Errorf("step %d: %.10q", n, got)
				}
				if !*fired {
					if err != nil || s.text(t) != next {
						t.Errorf("undisturbed: %v", err)
					}
					break
				}
				if !errors.Is(err, errDisk) {
					t.Errorf("step %d: %v", n, err)
				}
				// The same process goes on.
				if err := s.Write([]byte("after")); err != nil || s.text(t) != "after" {
					t.Errorf("after step %d: %v, %.10q", n, err, s.text(t))
				}
			}
		}
	}
}

// TestSlotsTorn cuts a write off after every byte, in both slots: the version
// before is there.
func TestSlotsTorn(t *testing.T) {
	t.Parallel()
	path, open := slotsAt(t)
	for _, version := range []string{"zero", "one", "two"} {
		if err := open(Disk{}).Write([]byte(version)); err != nil {
			t.Fatal(err)
		}
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		next := "the next of " + version
		if err := open(Disk{}).Write([]byte(next)); err != nil {
			t.Fatal(err)
		}
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var changed []int
		for i := range whole {
			if whole[i] != before[i] {
				changed = append(changed, i)
			}
		}
		for _, end := range changed[:len(changed)-1] {
			torn := append(bytes.Clone(whole[:end]), before[end:]...)
			if whole[0] == before[0] && end < slotUnit && changed[0] >= slotUnit {
				t.Fatal("both slots were written")
			}
			if err := os.WriteFile(path, torn, 0o600); err != nil {
				t.Fatal(err)
			}
			if got := open(Disk{}).text(t); got != version {
				t.Fatalf("cut at %d: %q, want %q", end, got, version)
			}
			if err := open(Disk{}).Write([]byte("again")); err != nil || open(Disk{}).text(t) != "again" {
				t.Fatalf("cut at %d: what is written then: %v", end, err)
			}
		}
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSlotsDamaged(t *testing.T) {
	t.Parallel()
	path, open := slotsAt(t)
	for _, content := range [][]byte{{}, []byte("{}\n"), make([]byte, 2*slotUnit), bytes.Repeat([]byte("stork-slot 1 "), slotUnit)} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := open(Disk{}).Read(); !errors.Is(err, ErrDamaged) {
			t.Errorf("%.20q: %v", content, err)
		}
		for _, change := range []func() error{open(Disk{}).Clear, open(Disk{}).Delete, func() error { return open(Disk{}).Write([]byte("x")) }} {
			if err := change(); !errors.Is(err, ErrDamaged) {
				t.Errorf("%.20q: changed: %v", content, err)
			}
		}
	}
}

// TestSlotsReaders reads while another writes: whole versions only, in order.
func TestSlotsReaders(t *testing.T) {
	t.Parallel()
	_, open := slotsAt(t)
	version := func(n int) string { return strings.Repeat(fmt.Sprintf("%06d ", n), 400) }
	writer := open(Disk{})
	if err := writer.Write([]byte(version(0))); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			last := ""
			for {
				select {
				case <-done:
					return
				default:
				}
				b, err := open(Disk{}).Read()
				if errors.Is(err, ErrDamaged) {
					continue // overtaken five times
				}
				got := string(b)
				if err != nil || got != strings.Repeat(got[:7], 400) || got < last {
					t.Errorf("%.7q after %.7q: %v", got, last, err)
					return
				}
				last = got
			}
		})
	}
	for n := range 300 {
		if err := writer.Write([]byte(version(n))); err != nil {
			t.Error(err)
		}
	}
	close(done)
	wg.Wait()
}

func FuzzSlots(f *testing.F) {
	v := slot{sequence: 3, length: 2}
	good := v.encode([]byte("{}"))
	f.Add(good, good)
	f.Add(slot{sequence: 4, length: 1 << 40}.encode(nil), []byte{})
	f.Add([]byte("stork-slot 1 00000000000000000001 -0000000000000000001 "), good)
	f.Fuzz(func(t *testing.T, one, two []byte) {
		content := make([]byte, 4*slotUnit)
		copy(content[:2*slotUnit], one)
		copy(content[2*slotUnit:], two)
		path := filepath.Join(t.TempDir(), "doc")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		s := &Slots{Path: path, Max: slotUnit}
		document, err := s.Read()
		if err != nil {
			return
		}
		if !bytes.Contains(content, document) {
			t.Errorf("read what is not there: %q", document)
		}
		if err := s.Write([]byte("next")); err != nil || s.text(t) != "next" {
			t.Errorf("what is written then: %v", err)
		}
	})
}
