package publish

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"stork/nestd/api"
	"stork/repo"
	"stork/repo/index"
	"stork/repo/rpmfile"
)

// readPackage is a package file with everything that is sent for it.
type readPackage struct {
	path   string
	blob   repo.Object
	entry  index.Entry
	list   repo.Object
	record content
	files  content
	swarm  repo.Object // the info dictionary
	info   content     // nil if the blob has no swarm
}

// Expand replaces "@FILE" by the paths that FILE lists, one a line, and makes
// all paths absolute.
func Expand(args []string) ([]string, error) {
	var paths []string
	for _, arg := range args {
		list, ok := strings.CutPrefix(arg, "@")
		if !ok {
			paths = append(paths, arg)
			continue
		}
		f, err := os.Open(list)
		if err != nil {
			return nil, fmt.Errorf("cannot read list of packages: %w", err)
		}
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			if line := strings.TrimSpace(lines.Text()); line != "" {
				paths = append(paths, line)
			}
		}
		if err := errors.Join(lines.Err(), f.Close()); err != nil {
			return nil, fmt.Errorf("cannot read list of packages %s: %w", list, err)
		}
	}
	for i, path := range paths {
		absolute, err := filepath.Abs(path)
		if err != nil {
			return nil, fmt.Errorf("cannot find %s: %w", path, err)
		}
		paths[i] = absolute
	}
	return paths, nil
}

// meter passes progress on, one call at a time.
type meter struct {
	mu       sync.Mutex
	report   func(Progress)
	progress Progress
}

func newMeter(report func(Progress), phase Phase, total int64) *meter {
	return &meter{report: report, progress: Progress{Phase: phase, Total: total}}
}

func (m *meter) add(n int64) {
	if m.report == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.progress.Done += n
	m.report(m.progress)
}

// readPackages reads packages on all processors, in the order of paths.
func readPackages(ctx context.Context, s *spool, paths []string, progress func(Progress)) ([]*readPackage, error) {
	all := make([]*readPackage, len(paths))
	m := newMeter(progress, Reading, int64(len(paths)))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, path := range paths {
		if groupCtx.Err() != nil {
			break
		}
		group.Go(func() (err error) {
			if all[i], err = readOne(s, path); err != nil {
				return err
			}
			m.add(1)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return all, ctx.Err()
}

func readOne(s *spool, path string) (*readPackage, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot publish: %w", err)
	}
	defer f.Close()
	file, err := rpmfile.FromStart(f)
	if err != nil {
		return nil, err
	}
	pkg, err := rpmfile.Build(file)
	if err != nil {
		return nil, packageError(path, err)
	}
	return s.keep(path, pkg)
}

// keep puts everything in the spool that is sent for a package beside its
// blob.
func (s *spool) keep(path string, pkg *rpmfile.Package) (*readPackage, error) {
	recordText, id, err := pkg.Record.Encode()
	if err != nil {
		return nil, err
	}
	listText, listObject, err := pkg.Files.Encode()
	if err != nil {
		return nil, err
	}
	p := &readPackage{
		path: path, blob: repo.Object{Digest: pkg.Record.Blob.Digest, Size: pkg.Record.Blob.Size},
		entry: index.EntryOf(pkg.Record, repo.Object{Digest: id, Size: int64(len(recordText))}),
		list:  repo.Object{Digest: listObject.Digest, Size: listObject.Size},
	}
	if p.record, err = s.put(recordText); err != nil {
		return nil, err
	}
	if p.files, err = s.put(listText); err != nil {
		return nil, err
	}
	if pkg.Info != nil {
		text := pkg.Info.Encode()
		p.swarm = repo.ObjectOf(text)
		p.info, err = s.put(text)
	}
	return p, err
}

// packageError gives what is wrong with a package its code.
func packageError(path string, err error) error {
	message := fmt.Sprintf("cannot publish %s: %v", path, err)
	switch {
	case errors.Is(err, rpmfile.ErrUnsupported):
		return &api.Error{Code: api.Unsupported, Message: message}
	case errors.Is(err, rpmfile.ErrMalformed):
		return &api.Error{Code: api.Malformed, Message: message, Hint: "Build or fetch the package again."}
	}
	return fmt.Errorf("cannot publish %s: %w", path, err)
}
