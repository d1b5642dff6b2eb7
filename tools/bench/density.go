package bench

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"

	"stork/fixtures"
)

// Density are the figures of `stork-bench density`. Memory is the proportional
// set size (Pss, proc_pid_smaps(5)) of what the processes map of the program's
// file, one process in each guest.
type Density struct {
	Guests            int   `json:"guests"`
	Files             int   `json:"files"`
	InstalledBytes    int64 `json:"installed_bytes"`      // of the package's files
	DiskPerGuestBytes int64 `json:"disk_per_guest_bytes"` // mean over all guests but the first, from before their first stork command
	PssTotalBytes     int64 `json:"pss_total_bytes"`
	PssPrivateBytes   int64 `json:"pss_private_bytes"` // of PssTotalBytes, pages that one process has for itself
	PssSingleBytes    int64 `json:"pss_single_bytes"`  // with one guest running it
	PssSingleOwnBytes int64 `json:"pss_single_private_bytes"`
	CopyPssTotalBytes int64 `json:"copy_pss_total_bytes"`

	// Growth is what each guest cost in turn, the first one first.
	Growth Growth `json:"growth"`
}

// Growth has a value for every guest; copying is measured in the first few.
type Growth struct {
	InstallMS     []float64 `json:"install_ms"`
	PrivateBytes  []int64   `json:"private_bytes"`
	StoreBytes    int64     `json:"store_bytes"` // of the host, once
	CopyMS        []float64 `json:"copy_ms"`
	CopyDiskBytes []int64   `json:"copy_disk_bytes"`
}

const (
	densityName  = "dense"
	densityFiles = 10000
	copyGuests   = 10 // in how many guests the files are copied too
)

// MeasureDensity measures what further guests cost in disk and memory, beside
// guests that have copies of their own.
func MeasureDensity(ctx context.Context, guests int, log io.Writer) (*Density, error) {
	l, err := newLab(ctx, guests, log)
	if err != nil {
		return nil, err
	}
	defer l.close()
	d := &density{lab: l, figures: &Density{Guests: guests, Files: densityFiles}}
	for _, step := range []func(context.Context) error{d.publish, d.install, d.share, d.copy} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return d.figures, nil
}

type density struct {
	*lab
	figures *Density
}

// publish makes a package of small files and one program, large enough to be
// seen in memory: Go's own formatter, which waits for its input.
func (d *density) publish(ctx context.Context) error {
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("cannot find the Go tree: %w", err)
	}
	program, err := treeFileAt(filepath.Join(strings.TrimSpace(string(root)), "bin", "gofmt"), d.program())
	if err != nil {
		return err
	}
	spec := sizedSpec(densityName, densityFiles-1)
	spec.Files = append(spec.Files, program)
	for i := range spec.Files {
		d.figures.InstalledBytes += int64(len(spec.Files[i].Content))
	}
	path, err := writePackage(d.packages(), spec)
	if err != nil {
		return err
	}
	return d.tb.Publish(ctx, "alice", []string{path})
}

func (d *density) program() string { return "/opt/" + densityName + "/bin/gofmt" }

// install installs the package everywhere.
func (d *density) install(ctx context.Context) error {
	before, err := d.tb.Stats(ctx)
	if err != nil {
		return err
	}
	guests := d.tb.Guests("")
	d.say("installing %d files in %d guests", densityFiles, len(guests))
	for _, guest := range guests {
		result, _, err := d.run(ctx, guest, "stork", "install", "-y", "-q", densityName)
		if err != nil {
			return err
		}
		d.figures.Growth.InstallMS = append(d.figures.Growth.InstallMS, milliseconds(result.Elapsed))
	}
	after, err := d.tb.Stats(ctx)
	if err != nil {
		return err
	}
	nest := d.tb.Nests()[0]
	d.figures.Growth.StoreBytes = after.Nests[nest].StoreBytes - before.Nests[nest].StoreBytes
	var further int64
	for i, guest := range guests {
		private := after.Guests[guest].PrivateBytes - before.Guests[guest].PrivateBytes
		d.figures.Growth.PrivateBytes = append(d.figures.Growth.PrivateBytes, private)
		if i > 0 {
			further += private
		}
	}
	d.figures.DiskPerGuestBytes = further / int64(max(1, len(guests)-1))
	return nil
}

// share runs the program in one guest, and then in all.
func (d *density) share(ctx context.Context) error {
	guests := d.tb.Guests("")
	one, err := d.memory(ctx, d.program(), guests[:1])
	if err != nil {
		return err
	}
	all, err := d.memory(ctx, d.program(), guests)
	d.figures.PssSingleBytes, d.figures.PssSingleOwnBytes = one.pss, one.private
	d.figures.PssTotalBytes, d.figures.PssPrivateBytes = all.pss, all.private
	return err
}

// copy does what installing without sharing does: all files in a few guests,
// and the program in all of them, for the memory.
func (d *density) copy(ctx context.Context) error {
	guests := d.tb.Guests("")
	before, err := d.tb.Stats(ctx)
	if err != nil {
		return err
	}
	some := guests[:min(len(guests), copyGuests)]
	d.say("copying them in %d guests", len(some))
	for _, guest := range some {
		result, _, err := d.run(ctx, guest, "sh", "-c", "cp -a /opt/"+densityName+" /var/tmp/ && sync -f /var/tmp")
		if err != nil {
			return err
		}
		d.figures.Growth.CopyMS = append(d.figures.Growth.CopyMS, milliseconds(result.Elapsed))
	}
	after, err := d.tb.Stats(ctx)
	if err != nil {
		return err
	}
	for _, guest := range some {
		private := after.Guests[guest].PrivateBytes - before.Guests[guest].PrivateBytes
		d.figures.Growth.CopyDiskBytes = append(d.figures.Growth.CopyDiskBytes, private)
	}
	const copied = "/var/tmp/copied/gofmt"
	for _, guest := range guests {
		if _, _, err := d.run(ctx, guest, "sh", "-c", "mkdir -p /var/tmp/copied && cp "+d.program()+" "+copied); err != nil {
			return err
		}
	}
	all, err := d.memory(ctx, copied, guests)
	d.figures.CopyPssTotalBytes = all.pss
	return err
}

// plot draws time and disk against the number of guests.
func (d *Density) plot(timePath, diskPath string) error {
	g := &d.Growth
	err := plotGuests(timePath, fmt.Sprintf("Installing %d files in one guest after another", d.Files), "seconds, added up",
		line{"Stork", summed(g.InstallMS, 1e-3, 0)}, line{"copying", summed(g.CopyMS, 1e-3, 0)})
	if err != nil {
		return err
	}
	return plotGuests(diskPath, fmt.Sprintf("Disk of %d files in all guests, with the host's store", d.Files), "MB",
		line{"Stork", summed(g.PrivateBytes, 1e-6, float64(g.StoreBytes)*1e-6)}, line{"copying", summed(g.CopyDiskBytes, 1e-6, 0)})
}

// summed adds up values, beginning with what is there before the first.
func summed[N int64 | float64](values []N, unit, before float64) []float64 {
	sums := make([]float64, len(values))
	for i, v := range values {
		before += float64(v) * unit
		sums[i] = before
	}
	return sums
}

// treeFileAt describes one file of the machine under another path.
func treeFileAt(path, target string) (fixtures.File, error) {
	entry, err := entryAt(path)
	if err != nil {
		return fixtures.File{}, err
	}
	return treeFile(path, target, entry)
}
