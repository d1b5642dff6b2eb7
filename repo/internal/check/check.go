package check

import (
	"context"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"stork/repo"
	"stork/repo/internal/home"
	"stork/signing"
)

// Report says what was looked at and what is wrong.
type Report struct {
	Blobs     int      `json:"blobs"`     // package files, each hashed
	Deltas    int      `json:"deltas"`    // each decompressed and compared
	Documents int      `json:"documents"` // index parts, records, file lists, policies, each hashed
	Frames    int      `json:"frames"`    // files of them, each decompressed and compared
	Metadata  int      `json:"metadata"`  // metadata files and key documents, each verified
	Packs     int      `json:"packs"`     // each decompressed and compared
	Packages  int      `json:"packages"`  // in all indexes that readers see
	Problems  []string `json:"problems"`  // sorted; empty: sound
}

// checker is one run.
type checker struct {
	home     *home.Home
	workers  int
	report   Report
	needed   map[string]repo.Object      // tree paths that some version of a role names; size 0: not known
	versions map[string]bool             // role files that were followed
	indexes  map[repo.Digest]repo.Object // index roots that were followed
	current  map[repo.Digest]bool        // those that readers see
	packs    map[string]repo.Object      // pack path → index root, for all roots
	swarms   map[string]repo.Swarm       // blob path → what a record says of it
	lists    map[string]repo.Object      // frames path → the package's file list

	mu sync.Mutex // guards report while workers run
}

// Run checks a repository, which may be in use, reading with that many
// workers. It returns an error if it could not look, not if what it saw is
// wrong.
func Run(ctx context.Context, h *home.Home, workers int) (*Report, error) {
	c := &checker{
		home: h, workers: max(workers, 1), needed: map[string]repo.Object{}, versions: map[string]bool{},
		indexes: map[repo.Digest]repo.Object{}, current: map[repo.Digest]bool{}, packs: map[string]repo.Object{},
		swarms: map[string]repo.Swarm{}, lists: map[string]repo.Object{},
	}
	c.report.Problems = []string{}
	if err := c.run(ctx); err != nil {
		return nil, fmt.Errorf("cannot check repository %s: %w", h.Dir(), err)
	}
	slices.Sort(c.report.Problems)
	return &c.report, nil
}

func (c *checker) run(ctx context.Context) error {
	files, err := c.list()
	if err != nil {
		return err
	}
	if err := c.follow(ctx); err != nil {
		return err
	}
	if err := c.signatures(files); err != nil {
		return err
	}
	if err := c.reach(ctx); err != nil {
		return err
	}
	if err := c.contents(ctx, files); err != nil {
		return err
	}
	return c.strays(ctx, files)
}

func (c *checker) problem(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Problems = append(c.report.Problems, fmt.Sprintf(format, args...))
}

// list returns all files of the tree by path, sorted.
func (c *checker) list() ([]string, error) {
	var files []string
	var walk func(dir string) error
	walk = func(dir string) error {
		entries, err := os.ReadDir(c.home.TreePath(dir))
		if err != nil {
			return err
		}
		for _, entry := range entries {
			p := path.Join(dir, entry.Name())
			if entry.IsDir() {
				if err := walk(p); err != nil {
					return err
				}
				continue
			}
			if !entry.Type().IsRegular() {
				c.problem("%s is not a regular file", p)
				continue
			}
			files = append(files, p)
		}
		return nil
	}
	return files, walk("")
}

// follow does what every reader does: from the pinned root to the roles. It
// keeps no trust state from one run to the next: the disk is the same one.
func (c *checker) follow(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "stork-repo-check-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	client, err := signing.Open(signing.Options{Dir: dir, Root: c.home.Root, Disk: c.home.Disk(), Now: c.home.Now})
	if err != nil {
		return err
	}
	src := signing.Dir(c.home.Tree())
	snapshot, err := client.Refresh(ctx, src)
	if err != nil {
		c.problem("readers refuse the metadata: %v", err)
		return ctx.Err()
	}
	for _, role := range snapshot.Roles() {
		if role.IsOwner() {
			_, err = snapshot.LookupDelegated(ctx, role, signing.PolicyTarget(role.Publisher()))
		} else {
			_, err = snapshot.LookupDelegated(ctx, role, signing.IndexTarget(role.Publisher()))
		}
		if err != nil {
			c.problem("readers refuse %s: %v", role, err)
		}
	}
	return ctx.Err()
}

// contents reads every file whose name says what is in it.
func (c *checker) contents(ctx context.Context, files []string) error {
	work := make(chan string)
	var wait sync.WaitGroup
	for range c.workers {
		wait.Go(func() {
			for p := range work {
				c.content(ctx, p)
			}
		})
	}
	for _, p := range files {
		if ctx.Err() != nil {
			break
		}
		work <- p
	}
	close(work)
	wait.Wait()
	return ctx.Err()
}

func (c *checker) content(ctx context.Context, p string) {
	var count *int
	var err error
	switch top, _, _ := strings.Cut(p, "/"); top {
	case "data":
		count, err = &c.report.Documents, c.hash(p)
	case "blobs":
		count, err = &c.report.Blobs, c.hash(p)
	case "frames":
		count, err = &c.report.Frames, c.frames(ctx, p)
	case "packs":
		count, err = &c.report.Packs, c.pack(ctx, p)
	case "deltas":
		count, err = &c.report.Deltas, c.delta(ctx, p)
	default:
		return
	}
	if os.IsNotExist(err) && (strings.HasPrefix(p, "packs/") || strings.HasPrefix(p, "deltas/")) {
		return // a newer one took its place meanwhile
	}
	if err != nil {
		c.problem("%s: %v", p, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	*count++
}
