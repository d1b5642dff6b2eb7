package bench

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"stork/tools/testbed"
)

// usage is what processes have in memory of a file, in bytes.
type usage struct {
	pss     int64 // shared pages divided fairly
	private int64 // pages that a process has changed, and so has for itself
}

// memory runs the same program in the guests, waiting for input, and adds up
// what the processes have in memory of its file.
func (l *lab) memory(ctx context.Context, program string, guests []string) (usage, error) {
	ctx, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	for _, guest := range guests {
		in, hold, err := os.Pipe()
		if err != nil {
			return usage{}, err
		}
		defer in.Close()
		defer hold.Close()
		running.Go(func() {
			_, _ = l.tb.Exec(ctx, guest, testbed.Command{Args: []string{program}, Stdin: in}) // ends with ctx
		})
	}
	return sumPss(ctx, program, len(guests))
}

// sumPss waits for n processes of that program and adds up the proportional
// set sizes of what they map of it.
func sumPss(ctx context.Context, program string, n int) (usage, error) {
	found := 0
	for began := time.Now(); time.Since(began) < time.Minute; {
		pids, err := processes(program)
		if err != nil {
			return usage{}, err
		}
		var total usage
		found = 0
		for _, pid := range pids {
			if u, err := fileUsage(filepath.Join("/proc", pid, "smaps"), program); err == nil && u.pss > 0 {
				found++
				total.pss += u.pss
				total.private += u.private
			}
		}
		if found == n {
			return total, nil
		}
		select {
		case <-ctx.Done():
			return usage{}, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return usage{}, fmt.Errorf("cannot find %d processes of %s, only %d", n, program, found)
}

// processes returns the numbers of the processes with that command line,
// words parted by blanks.
func processes(command string) ([]string, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	var pids []string
	for _, path := range dirs {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // ended
		}
		if string(bytes.ReplaceAll(bytes.TrimRight(b, "\x00"), []byte{0}, []byte(" "))) == command {
			pids = append(pids, filepath.Base(filepath.Dir(path)))
		}
	}
	return pids, nil
}

// fileUsage adds up the mappings of the program's own file (proc(5), smaps).
func fileUsage(smaps, program string) (total usage, err error) {
	b, err := os.ReadFile(smaps)
	if err != nil {
		return total, err
	}
	ours := false
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) >= 5 && strings.Contains(fields[0], "-") {
			ours = len(fields) > 5 && filepath.Base(fields[5]) == filepath.Base(program)
			continue
		}
		if !ours || len(fields) != 3 {
			continue
		}
		var kb int64
		switch fields[0] {
		case "Pss:":
			_, err = fmt.Sscan(fields[1], &kb)
			total.pss += kb << 10
		case "Private_Dirty:":
			_, err = fmt.Sscan(fields[1], &kb)
			total.private += kb << 10
		}
		if err != nil {
			return usage{}, err
		}
	}
	return total, nil
}

// statusBytes returns a field of /proc/PID/status that is in kB.
func statusBytes(pid, field string) (int64, error) {
	b, err := os.ReadFile(filepath.Join("/proc", pid, "status"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			var kb int64
			_, err := fmt.Sscanf(rest, "%d kB", &kb)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("cannot find %s of process %s", field, pid)
}
