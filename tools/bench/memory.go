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

// memory runs the same program in the guests, waiting for input, and adds up
// what the processes have in memory of its file, shared pages divided fairly.
func (l *lab) memory(ctx context.Context, program string, guests []string) (int64, error) {
	ctx, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	for _, guest := range guests {
		in, hold, err := os.Pipe()
		if err != nil {
			return 0, err
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
func sumPss(ctx context.Context, program string, n int) (int64, error) {
	found := 0
	for began := time.Now(); time.Since(began) < time.Minute; {
		pids, err := processes(program)
		if err != nil {
			return 0, err
		}
		var total int64
		found = 0
		for _, pid := range pids {
			if pss, err := filePss(filepath.Join("/proc", pid, "smaps"), program); err == nil && pss > 0 {
				found, total = found+1, total+pss
			}
		}
		if found == n {
			return total, nil
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return 0, fmt.Errorf("cannot find %d processes of %s, only %d", n, program, found)
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

// filePss adds up Pss of the mappings of the program's own file.
func filePss(smaps, program string) (total int64, err error) {
	b, err := os.ReadFile(smaps)
	if err != nil {
		return 0, err
	}
	ours := false
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		switch {
		case len(fields) >= 5 && strings.Contains(fields[0], "-"):
			ours = len(fields) > 5 && filepath.Base(fields[5]) == filepath.Base(program)
		case ours && len(fields) == 3 && fields[0] == "Pss:":
			var kb int64
			if _, err := fmt.Sscan(fields[1], &kb); err != nil {
				return 0, err
			}
			total += kb << 10
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
