package fetch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"stork/nestd/confine"
	"stork/nestd/internal/fetch/transfer/web"
	"stork/repo"
)

// What an error of this package wraps, so that the core can choose the wire
// code. An absent file is fs.ErrNotExist.
var (
	ErrUnreachable = errors.New("the repository can not be reached")
	ErrMismatch    = errors.New("the content does not match its digest")
	ErrTooLarge    = errors.New("larger than allowed")
	ErrNoSpace     = errors.New("no space left in the spool")
)

// Options say how to run the child.
type Options struct {
	Exe       string   // the program; empty: /proc/self/exe
	Args      []string // that make it call [Child]; the configuration is added behind
	Env       []string // of the child; empty in production
	UID, GID  int      // whom it runs as
	Spool     string   // the directory that it writes; made if absent, and given to the child's user
	SocketDir string   // a directory for the socket; made if absent
	Seeds     string   // the directory of what is kept for others, if Config says so; made if absent
	Proxy     string   // address of an HTTP proxy; empty: none
	Config    Config
	Trackers  func() []string // addresses below which repositories' trackers answer this nest, for a day; nil: none
	Tuning    web.Tuning      // for tests, which have no time
	Log       *slog.Logger
}

// Fetcher is the daemon's side. Its methods may be called from several
// goroutines.
type Fetcher struct {
	options  Options
	http     *http.Client
	listener *os.File // kept, so that requests queue while a child is replaced
	spool    *os.File
	seeds    *seeds // nil: nothing is kept
	cancel   context.CancelFunc
	done     chan struct{}
	tags     *tagCache

	mu    sync.Mutex
	pid   int
	infos map[repo.Digest][]byte // of blobs in the spool that may be kept: their info dictionaries
}

// Start makes spool and socket and starts the child, which is replaced with
// growing pauses when it dies, until ctx ends or Close is called.
func Start(ctx context.Context, o Options) (*Fetcher, error) {
	if o.Exe == "" {
		o.Exe = "/proc/self/exe"
	}
	if err := o.Config.Check(); err != nil {
		return nil, fmt.Errorf("cannot start fetcher: %w", err)
	}
	f := &Fetcher{options: o, done: make(chan struct{}), tags: newTagCache(), infos: map[repo.Digest][]byte{}}
	if err := f.prepare(); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot start fetcher: %w", err), f.closeFiles())
	}
	ctx, f.cancel = context.WithCancel(ctx)
	first, err := f.startChild(ctx, false)
	if err != nil {
		f.cancel()
		return nil, errors.Join(fmt.Errorf("cannot start fetcher: %w", err), f.closeFiles())
	}
	announced := make(chan struct{})
	go func() { defer close(announced); f.announceSeeds(ctx) }()
	go f.supervise(ctx, first, announced)
	return f, nil
}

// Close ends the child and waits for it.
func (f *Fetcher) Close() error {
	f.cancel()
	<-f.done
	f.http.CloseIdleConnections()
	return f.closeFiles()
}

// PID returns the process number of the child that runs now.
func (f *Fetcher) PID() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pid
}

func (f *Fetcher) closeFiles() error {
	var errs []error
	for _, file := range []*os.File{f.listener, f.spool} {
		if file != nil {
			errs = append(errs, file.Close())
		}
	}
	if f.seeds != nil {
		errs = append(errs, f.seeds.dir.Close())
	}
	return errors.Join(errs...)
}

// staleAfter is how long an unfinished blob waits for somebody to want it
// again.
const staleAfter = 24 * time.Hour

// prepare makes what the child inherits. None of it is state: a spool that is
// lost costs a download.
func (f *Fetcher) prepare() error {
	if err := os.MkdirAll(f.options.Spool, 0o700); err != nil {
		return err
	}
	uid, gid := confine.User(f.options.UID, f.options.GID)
	if err := adopt(f.options.Spool, uid, gid); err != nil {
		return err
	}
	spool, err := os.Open(f.options.Spool)
	if err != nil {
		return err
	}
	f.spool = spool
	if f.options.Seeds != "" && f.options.Config.SeedBytes > 0 {
		if f.seeds, err = openSeeds(f.options.Seeds, f.options.Config.SeedBytes); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(f.options.SocketDir, 0o700); err != nil {
		return err
	}
	return f.listen()
}

// adopt gives the spool to the child's user, who may have been another one
// before, and drops what nobody came back for.
func adopt(dir string, uid, gid int) error {
	if err := os.Lchown(dir, uid, gid); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		info, err := entry.Info()
		if err != nil {
			continue // gone meanwhile
		}
		if !info.Mode().IsRegular() || time.Since(info.ModTime()) > staleAfter {
			err = os.RemoveAll(path)
		} else {
			err = os.Lchown(path, uid, gid)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// listen binds the socket in a directory that only the daemon's user may
// enter. The child gets the listening descriptor and never its path.
func (f *Fetcher) listen() error {
	path := filepath.Join(f.options.SocketDir, "fetcher.sock")
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return err
	}
	listener.SetUnlinkOnClose(false)
	f.listener, err = listener.File()
	if err := errors.Join(err, listener.Close()); err != nil {
		return err
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}
	f.http = &http.Client{Transport: &http.Transport{DialContext: dial, DisableCompression: true, MaxIdleConnsPerHost: 16}}
	return nil
}

func (f *Fetcher) startChild(ctx context.Context, crashed bool) (*confine.Process, error) {
	o := f.options
	config, err := json.Marshal(childConfig{Proxy: o.Proxy, Config: o.Config, Tuning: o.Tuning, Seeds: f.seeds != nil, Crashed: crashed})
	if err != nil {
		return nil, err
	}
	child := confine.Child{
		Exe: o.Exe, Args: append(append([]string{}, o.Args...), string(config)), Env: o.Env,
		UID: o.UID, GID: o.GID, Network: true, Stderr: &logWriter{log: o.Log},
		Files: []*os.File{f.listener, f.spool},
	}
	if f.seeds != nil {
		child.Files = append(child.Files, f.seeds.dir)
	}
	process, err := child.Start(ctx)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	f.pid = process.PID()
	f.mu.Unlock()
	return process, nil
}

// maxRestartStep bounds the pause before a child is replaced to 1.6 s: a
// server that can make children die costs that, and no more of what others
// serve.
const maxRestartStep = 6

// panicked is the status of a program in Go that panicked.
const panicked = 2

// supervise replaces the child whenever it dies.
func (f *Fetcher) supervise(ctx context.Context, process *confine.Process, announced <-chan struct{}) {
	defer close(f.done)
	defer func() { <-announced }()
	crashed := false
	for failures := 0; ; {
		started := time.Now()
		if process != nil {
			<-process.Done()
			if ctx.Err() != nil {
				return
			}
			crashed = process.ExitCode() == panicked
			f.options.Log.Warn("fetcher died", "status", process.Status())
		}
		if time.Since(started) > time.Minute {
			failures = 0
		}
		failures++
		if pause(ctx, 50*time.Millisecond, min(failures, maxRestartStep)) != nil {
			return
		}
		var err error
		if process, err = f.startChild(ctx, crashed); err != nil {
			f.options.Log.Error("cannot restart fetcher", "err", err)
		}
	}
}

// logWriter passes what the child says on, a line a message, and bounded: the
// child may be anybody's by now.
type logWriter struct{ log *slog.Logger }

func (w *logWriter) Write(p []byte) (int, error) {
	w.log.Info("fetcher says", "text", string(p[:min(len(p), 1024)]))
	return len(p), nil
}

// openSpooled opens what the child has written, whatever it made of it.
func (f *Fetcher) openSpooled(name string, size int64) (*os.File, error) {
	fd, err := unix.Openat(int(f.spool.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	file := os.NewFile(uintptr(fd), name)
	info, err := file.Stat()
	if err == nil && (!info.Mode().IsRegular() || info.Size() != size) {
		err = fmt.Errorf("%w: the fetcher left something else", ErrMismatch)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// pause sleeps between half and all of base times two to the power of n-1,
// 30 s at most.
func pause(ctx context.Context, base time.Duration, n int) error {
	delay := min(base<<min(n-1, 16), 30*time.Second)
	delay = delay/2 + rand.N(delay/2+1)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(delay):
		return nil
	}
}

// drain reads what is left of an answer, a little, so that its connection can
// be used again.
func drain(body io.ReadCloser) {
	// Neither error matters: the connection is only worth keeping if both work.
	_, _ = io.CopyN(io.Discard, body, 4<<10)
	_ = body.Close()
}
