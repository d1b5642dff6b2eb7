package bench

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"stork/repo/durable"
)

// Report is what `stork-bench all` measured.
type Report struct {
	Machine Machine   `json:"machine"`
	Index   *Index    `json:"index"`
	Install []Install `json:"install"`
}

// Machine is where figures came from.
type Machine struct {
	Date   string `json:"date"`
	Kernel string `json:"kernel"`
	CPU    string `json:"cpu"`
	CPUs   int    `json:"cpus"`
	Memory uint64 `json:"memory_bytes"`
	Go     string `json:"go"`
}

// InstallAlone measures installs in a testbed of their own.
func InstallAlone(ctx context.Context, files, others int, log io.Writer) (*Install, error) {
	l, err := newLab(ctx, installGuests, log)
	if err != nil {
		return nil, err
	}
	defer l.close()
	if _, err := l.addOthers(ctx, others); err != nil {
		return nil, err
	}
	return MeasureInstall(ctx, l, files, others)
}

// IndexAlone measures a large repository in a testbed of its own.
func IndexAlone(ctx context.Context, packages int, log io.Writer) (*Index, error) {
	l, err := newLab(ctx, 1, log)
	if err != nil {
		return nil, err
	}
	defer l.close()
	return MeasureIndex(ctx, l, packages)
}

// All measures everything with that many packages in the repository.
func All(ctx context.Context, packages int, log io.Writer) (*Report, error) {
	l, err := newLab(ctx, installGuests, log)
	if err != nil {
		return nil, err
	}
	defer l.close()
	r := &Report{Machine: thisMachine()}
	if r.Index, err = MeasureIndex(ctx, l, packages); err != nil {
		return nil, err
	}
	for _, files := range []int{20, 10000} {
		figures, err := MeasureInstall(ctx, l, files, packages)
		if err != nil {
			return nil, err
		}
		r.Install = append(r.Install, *figures)
	}
	return r, nil
}

func thisMachine() Machine {
	m := Machine{Date: time.Now().UTC().Format(time.DateOnly), CPUs: runtime.NumCPU(), Go: runtime.Version(), CPU: "unknown"}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		m.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		m.Memory = info.Totalram * uint64(info.Unit)
	}
	if f, err := os.Open("/proc/cpuinfo"); err == nil {
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == "model name" {
				m.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	return m
}

// Write writes the report for people.
func (r *Report) Write(path string) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Performance\n\nMeasured by `make bench` on %s: %s, %d processors, %.0f GiB, Linux %s, %s. Times are of whole processes, from the exec of `stork` in the guest to its exit. The machine is shared and noisy: take ratios.\n",
		r.Machine.Date, r.Machine.CPU, r.Machine.CPUs, float64(r.Machine.Memory)/(1<<30), r.Machine.Kernel, r.Machine.Go)
	fmt.Fprintf(&b, "\n## Installing\n\nWith %d packages in the repository, in guests without an rpm database, packages without scriptlets. The first install downloads, unpacks, verifies and stores; further guests share. Percentiles are of %d installs, among them the first `stork` command of every guest.\n\n",
		r.Index.Packages, r.Install[0].N)
	b.WriteString("| files | first install | `rpm -i` | ratio | further guests p50 | p99 |\n|---|---|---|---|---|---|\n")
	for _, i := range r.Install {
		rpm, ratio := "no rpm", ""
		if i.RPMMS != nil {
			rpm, ratio = fmt.Sprintf("%.0f ms", *i.RPMMS), fmt.Sprintf("%.2f", i.FirstMS / *i.RPMMS)
		}
		fmt.Fprintf(&b, "| %d | %.0f ms | %s | %s | %.1f ms | %.1f ms |\n", i.Files, i.FirstMS, rpm, ratio, i.SecondP50MS, i.SecondP99MS)
	}
	fmt.Fprintf(&b, "\n## A large repository\n\n| | |\n|---|---|\n| packages | %d |\n| publish them all: read, sign, upload, verify, follow | %.1f s |\n| a nest takes the first index | %.2f s |\n| metadata and solving of one install (dry run, whole process) | %.1f ms |\n| the same with one package in the repository | %.1f ms |\n| largest resident size of that process | %.1f MB |\n",
		r.Index.Packages, r.Index.PublishSeconds, r.Index.IngestSeconds, r.Index.SolveMS, r.Index.EmptySolveMS, float64(r.Index.GuestPeakBytes)/1e6)
	b.WriteString("\nHow far from the limits, and what falls short, is kept in [limits.md](limits.md), which people write.\n")
	return durable.Disk{}.WriteFile(path, b.Bytes(), 0o644)
}
