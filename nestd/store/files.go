package store

import (
	"context"
	"io"
	"runtime"

	"golang.org/x/sync/errgroup"
)

// largeFile is the size in bytes from which on a file is not handed to a
// worker in memory, but written as it comes.
const largeFile = 256 << 10

// delivery is a file's content on its way to a worker.
type delivery struct {
	unit    *unit
	content []byte
	buffer  []byte // that content lies in, to be given back
}

// makeFiles takes the files from the source. Small ones are written by several
// workers while the source already prepares the next.
func (j *filling) makeFiles(ctx context.Context) error {
	workers := min(max(2, runtime.GOMAXPROCS(0)), 16)
	g, ctx := errgroup.WithContext(ctx)
	work := make(chan delivery, 2*workers)
	free := make(chan []byte, 4*workers)
	for range cap(free) {
		free <- nil // made when they are needed
	}
	for range workers {
		g.Go(func() error {
			w := worker{j}
			for d := range work {
				if err := w.make(d.unit, d.content); err != nil {
					return d.unit.explain(err)
				}
				j.tick(d.unit.size)
				free <- d.buffer
			}
			return nil
		})
	}
	g.Go(func() error {
		defer close(work)
		return j.receive(ctx, work, free)
	})
	return g.Wait()
}

// receive reads the source to its end. Every unit must come, once.
func (j *filling) receive(ctx context.Context, work chan<- delivery, free <-chan []byte) error {
	came := make([]bool, len(j.plan.units))
	for left := len(came); ; left-- {
		if err := ctx.Err(); err != nil {
			return err
		}
		index, size, err := j.source.Next()
		if err == io.EOF && left == 0 {
			return nil
		}
		if err == io.EOF {
			return differs("it lacks %d of the listed files", left)
		}
		if err != nil {
			return err
		}
		n, ok := j.plan.unitOf[index]
		if !ok || came[n] {
			return differs("it has a file %d that is not in the list, or has it twice", index)
		}
		came[n] = true
		if err := j.pass(ctx, &j.plan.units[n], size, work, free); err != nil {
			return err
		}
	}
}

// pass hands one file to a worker, or writes it.
func (j *filling) pass(ctx context.Context, u *unit, size int64, work chan<- delivery, free <-chan []byte) error {
	if size != u.size {
		return u.explain(differs("it has %d bytes, the file list has %d", size, u.size))
	}
	if size >= largeFile {
		w := worker{j}
		if err := w.stream(ctx, u, j.source); err != nil {
			return u.explain(err)
		}
		j.tick(size)
		return nil
	}
	d := delivery{unit: u}
	select {
	case d.buffer = <-free:
	case <-ctx.Done():
		return ctx.Err()
	}
	if int64(len(d.buffer)) < size {
		d.buffer = make([]byte, max(size, 8<<10))
	}
	d.content = d.buffer[:size]
	n, err := io.ReadFull(j.source, d.content)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = differs("it ends after %d of %d bytes", n, size)
	}
	if err != nil {
		return u.explain(err)
	}
	select {
	case work <- d:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (j *filling) tick(size int64) {
	if j.progress == nil {
		return
	}
	j.report.Lock()
	defer j.report.Unlock()
	j.done += size
	j.progress(j.done, j.plan.size)
}
