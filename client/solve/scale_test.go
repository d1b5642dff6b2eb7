package solve

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"syscall"
	"testing"
	"time"

	"stork/repo"
)

// bigWorld is a repository of n packages, like a distribution's: most need a
// few libraries with lower numbers, by soname, name or path. "app" needs
// packages enough for a closure of about size packages; "tool" needs a
// handful.
func bigWorld(n, size int) *world {
	r := rand.New(rand.NewPCG(1, 2))
	packages := make([]*Package, 0, n+2)
	make1 := func(name string, version int) *Package {
		return &Package{
			Name: repo.Name(name), EVR: repo.EVR{Version: fmt.Sprint(version), Release: "1"}, Arch: "x86_64", Publisher: "alice",
		}
	}
	soname := func(i int) string { return fmt.Sprintf("lib%d.so.1()(64bit)", i) }
	for i := range n {
		p := make1(fmt.Sprintf("pkg%d", i), 1+i%3)
		p.Provides = []repo.Capability{{Name: soname(i)}, {Name: fmt.Sprintf("config(pkg%d)", i), Op: repo.Equal, EVR: p.EVR}}
		p.Paths = []string{fmt.Sprintf("/usr/bin/pkg%d", i)}
		p.Requires = []string{"libc.so.6()(64bit)", "rtld(GNU_HASH)", "rpmlib(FileDigests) <= 4.6.0-1"}
		if i > 0 {
			for range 4 {
				dep := r.IntN(i)
				if i < size {
					dep = max(0, i-1-r.IntN(40))
				}
				p.Requires = append(p.Requires, []string{soname(dep), fmt.Sprintf("pkg%d >= 1", dep), fmt.Sprintf("/usr/bin/pkg%d", dep)}[r.IntN(3)])
			}
		}
		packages = append(packages, p)
	}
	app, tool := make1("app", 1), make1("tool", 1)
	for i := range size / 10 {
		app.Requires = append(app.Requires, soname(size-1-i*10))
	}
	for i := range 10 {
		tool.Requires = append(tool.Requires, soname(i))
	}
	return newWorld(append(packages, app, tool)...)
}

var bigGuest = guest{"libc.so.6()(64bit)", "rtld(GNU_HASH)", "rpmlib(FileDigests) = 4.6.0-1"}

func solveName(t testing.TB, w *world, name string) *Transaction {
	t.Helper()
	spec, err := ParseSpec(name)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Solve(context.Background(), Request{Arch: "x86_64", Jobs: []Job{{Install, spec}}}, w, bigGuest)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// cpu returns the processor time that the process has used: on a machine
// that others use too, the clock measures them.
func cpu(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestScale is not parallel: it measures.
func TestScale(t *testing.T) {
	w := bigWorld(60_000, 1_000)
	measure := func(name string, runs int) (time.Duration, *Transaction) {
		var got *Transaction
		start := cpu(t)
		for range runs {
			got = solveName(t, w, name)
		}
		return (cpu(t) - start) / time.Duration(runs), got
	}
	small, few := measure("tool", 100)
	big, many := measure("app", 5)
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	w.lookups = 0
	solveName(t, w, "app")
	runtime.ReadMemStats(&after)
	allocated := (after.TotalAlloc - before.TotalAlloc) >> 20
	t.Logf("%d packages: %v of processor time; %d packages: %v, %d MB allocated, %d round trips", len(few.Install), small, len(many.Install), big, allocated, w.lookups)
	if len(many.Install) < 900 {
		t.Fatalf("the closure has %d packages only", len(many.Install))
	}
	if small > 2*time.Millisecond || big > 100*time.Millisecond || allocated > 60 {
		t.Errorf("too slow or too large: %v, %v, %d MB", small, big, allocated)
	}
}

// TestManyVersions keeps a publisher with thousands of versions of one name
// from costing more than linear rules.
func TestManyVersions(t *testing.T) {
	t.Parallel()
	var list []*Package
	for i := range 5000 {
		list = append(list, pkg(t, fmt.Sprintf("a-%d-1.noarch", i)))
	}
	got := solveName(t, newWorld(list...), "a")
	if len(got.Install) != 1 || got.Install[0].Package.EVR.Version != "4999" {
		t.Errorf("got %v", changes(got))
	}
}

func BenchmarkSmall(b *testing.B) {
	w := bigWorld(60_000, 1_000)
	b.ReportAllocs()
	for b.Loop() {
		solveName(b, w, "tool")
	}
}

func BenchmarkBig(b *testing.B) {
	w := bigWorld(60_000, 1_000)
	b.ReportAllocs()
	for b.Loop() {
		solveName(b, w, "app")
	}
}
