package bench

import (
	"fmt"
	"path/filepath"
	"strings"

	"stork/repo/durable"
)

// The plots lie beside the report.
const (
	timePlot = "install-time.svg"
	diskPlot = "disk.svg"
)

// Write writes the report for people, and its plots beside it.
func (r *Report) Write(path string) error {
	dir := filepath.Dir(path)
	if err := r.Density.plot(filepath.Join(dir, timePlot), filepath.Join(dir, diskPlot)); err != nil {
		return err
	}
	var b strings.Builder
	for _, chapter := range []func(*strings.Builder){r.writeHead, r.writeInstalls, r.writeGuests, r.writeIndex} {
		chapter(&b)
	}
	b.WriteString("\nHow far from the limits, and what falls short, is kept in [limits.md](limits.md), which people write.\n")
	return durable.Disk{}.WriteFile(path, []byte(b.String()), 0o644)
}

func (r *Report) writeHead(b *strings.Builder) {
	m := &r.Machine
	fmt.Fprintf(b, "# Performance\n\nMeasured by `make bench` on %s: %s, %d processors, %.0f GiB, Linux %s, %s. Times are of whole processes, from the exec of `stork` in the guest to its exit. The machine is shared and noisy: take ratios.\n",
		m.Date, m.CPU, m.CPUs, float64(m.Memory)/(1<<30), m.Kernel, m.Go)
}

func (r *Report) writeInstalls(b *strings.Builder) {
	fmt.Fprintf(b, "\n## Installing\n\nWith %d packages in the repository, in guests without an rpm database, packages without scriptlets. The first install downloads, unpacks, verifies and stores; further guests share. Percentiles are of %d installs, among them the first `stork` command of every guest.\n\n",
		r.Index.Packages, r.Install[0].N)
	b.WriteString("| files | first install | `rpm -i` | ratio | further guests p50 | p99 |\n|---|---|---|---|---|---|\n")
	for _, i := range r.Install {
		rpm, ratio := "no rpm", ""
		if i.RPMMS != nil {
			rpm, ratio = fmt.Sprintf("%.0f ms", *i.RPMMS), fmt.Sprintf("%.2f", i.FirstMS / *i.RPMMS)
		}
		fmt.Fprintf(b, "| %d | %.0f ms | %s | %s | %.1f ms | %.1f ms |\n", i.Files, i.FirstMS, rpm, ratio, i.SecondP50MS, i.SecondP99MS)
	}
	s := r.Set
	fmt.Fprintf(b, "\n%d packages with %d files in all, which one package requires: first install %.0f ms; in %d further guests, each for the first time, p50 %.0f ms, p99 %.0f ms.\n",
		s.Packages, s.Files, s.FirstMS, s.N, s.SecondP50MS, s.SecondP99MS)
	b.WriteString("\nThe same files into an empty directory, in the same run and in turn: with rpm, dnf and dpkg, with `rpm2archive | tar` and a sync, and by copying the tree with a sync.\n\n| files | Stork, first | Stork, further p50 | rpm | dnf | dpkg | tar | copy |\n|---|---|---|---|---|---|---|---|\n")
	for _, i := range r.Install {
		fmt.Fprintf(b, "| %d | %.0f ms | %.1f ms |", i.Files, i.FirstMS, i.SecondP50MS)
		writePeers(b, i.PeersMS)
	}
	t := r.Tree
	fmt.Fprintf(b, "| %d, the Go tree, %.0f MB | %.0f ms | |", t.Files, float64(t.Bytes)/1e6, t.FirstMS)
	writePeers(b, t.PeersMS)
}

func writePeers(b *strings.Builder, figures map[string]float64) {
	for _, peer := range peers {
		if ms, ok := figures[peer.name]; ok {
			fmt.Fprintf(b, " %.0f ms |", ms)
		} else {
			b.WriteString(" not here |")
		}
	}
	b.WriteString("\n")
}

func (r *Report) writeGuests(b *strings.Builder) {
	d, c := r.Density, r.Crowd
	fmt.Fprintf(b, "\n## Many guests\n\n%d guests with a package of %d files (%.1f MB), one running program in each; memory is Pss of what the processes map of the program.\n\n| | Stork | copying |\n|---|---|---|\n| disk of each further guest | %.0f kB | %.1f MB |\n| memory of the program, one guest | %.1f MB | |\n| memory of the program, all guests | %.1f MB | %.1f MB |\n| of it, pages that a process has changed | %.1f MB | |\n| the rest, over that of one guest | %.3f | |\n",
		d.Guests, d.Files, float64(d.InstalledBytes)/1e6, float64(d.DiskPerGuestBytes)/1e3, float64(d.Growth.CopyDiskBytes[0])/1e6,
		float64(d.PssSingleBytes)/1e6, float64(d.PssTotalBytes)/1e6, float64(d.CopyPssTotalBytes)/1e6,
		float64(d.PssPrivateBytes)/1e6, float64(d.PssTotalBytes-d.PssPrivateBytes)/float64(d.PssSingleBytes-d.PssSingleOwnBytes))
	fmt.Fprintf(b, "\n![time](%s)\n\n![disk](%s)\n", timePlot, diskPlot)
	fmt.Fprintf(b, "\n%d guests installing the same package of 20 files, started together, for each the first `stork` command: all done in %.1f s, %.0f downloads, %d failed, the nest had %.0f MB resident at most.\n",
		c.Guests, c.Seconds, c.Downloads, c.Failed, float64(c.NestRSSBytes)/1e6)
}

func (r *Report) writeIndex(b *strings.Builder) {
	i := r.Index
	fmt.Fprintf(b, "\n## A large repository\n\n| | |\n|---|---|\n| packages | %d |\n| publish them all: read, sign, upload, verify, follow | %.1f s |\n| a nest takes the first index | %.2f s |\n| metadata and solving of one install (dry run, whole process) | %.1f ms |\n| the same with one package in the repository | %.1f ms |\n| largest resident size of that process | %.1f MB |\n| what a nest receives to know of %d packages more, all headers included | %.1f kB |\n",
		i.Packages, i.PublishSeconds, i.IngestSeconds, i.SolveMS, i.EmptySolveMS, float64(i.GuestPeakBytes)/1e6, i.Added, float64(i.RefreshBytes)/1e3)
}
