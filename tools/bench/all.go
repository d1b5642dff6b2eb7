package bench

import (
	"bufio"
	"context"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Report is what `stork-bench all` measured.
type Report struct {
	Machine Machine   `json:"machine"`
	Index   *Index    `json:"index"`
	Install []Install `json:"install"`
	Set     *Set      `json:"set"`
	Tree    *Tree     `json:"tree"`
	Density *Density  `json:"density"`
	Crowd   *Crowd    `json:"crowd"`
}

// How many guests `stork-bench all` takes for density and crowd.
const (
	densityGuests = 100
	crowdGuests   = 1000
)

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

// All measures everything, installs with that many packages in the
// repository.
func All(ctx context.Context, packages int, log io.Writer) (*Report, error) {
	r := &Report{Machine: thisMachine()}
	if err := r.installs(ctx, packages, log); err != nil {
		return nil, err
	}
	var err error
	if r.Tree, err = MeasureTree(ctx, log); err != nil {
		return nil, err
	}
	if r.Crowd, err = MeasureCrowd(ctx, crowdGuests, log); err != nil {
		return nil, err
	}
	r.Density, err = MeasureDensity(ctx, densityGuests, log)
	return r, err
}

func (r *Report) installs(ctx context.Context, packages int, log io.Writer) error {
	l, err := newLab(ctx, installGuests, log)
	if err != nil {
		return err
	}
	defer l.close()
	if r.Index, err = MeasureIndex(ctx, l, packages); err != nil {
		return err
	}
	for _, files := range []int{20, 10000} {
		figures, err := MeasureInstall(ctx, l, files, packages)
		if err != nil {
			return err
		}
		r.Install = append(r.Install, *figures)
	}
	r.Set, err = MeasureSet(ctx, l, packages)
	return err
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
