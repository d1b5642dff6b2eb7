package nest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"stork/nestd/api"
	"stork/repo"
)

// du returns what du(1) says of a tree.
func du(t *testing.T, dir string) int64 {
	t.Helper()
	out, err := exec.Command("du", "--summarize", "--block-size=1", dir).Output()
	must(t, err)
	bytes, err := strconv.ParseInt(strings.Fields(string(out))[0], 10, 64)
	must(t, err)
	return bytes
}

// ownOf gives a guest its upper, with something of everything in it.
func ownOf(t *testing.T, n *Nest, guest string) string {
	t.Helper()
	dir, _, err := n.makeUpper(context.Background(), guest)
	must(t, err)
	deep := filepath.Join(dir, "upper/usr/share")
	must(t, os.MkdirAll(deep, 0o755))
	big := filepath.Join(deep, "big")
	must(t, os.WriteFile(big, make([]byte, 1<<20), 0o4755))
	must(t, os.Link(big, filepath.Join(dir, "again")))
	must(t, os.Symlink("/", filepath.Join(dir, "root")))
	must(t, os.Symlink("/nowhere/"+strings.Repeat("x", 200), filepath.Join(dir, "dangling")))
	must(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	must(t, unix.Mknod(filepath.Join(dir, "whiteout"), unix.S_IFCHR, 0))
	must(t, os.WriteFile(filepath.Join(dir, "sparse"), nil, 0o600))
	must(t, os.Truncate(filepath.Join(dir, "sparse"), 1<<40))
	return dir
}

// TestUsageOfOwn: what a guest writes in its upper is its own, and its owner's.
func TestUsageOfOwn(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	n := startNest(t, o)
	addGuest(t, n, "g1")
	addGuest(t, n, "g2")
	dir := ownOf(t, n, "g1")
	usage, err := n.Usage(context.Background())
	must(t, err)
	g1, g2, owner := usage.Guests[0], usage.Guests[1], usage.Owners[0]
	want := du(t, filepath.Dir(dir))
	if g1.Own.Disk != want || g1.Own.Files != 10 || g1.Own.Partial {
		t.Errorf("own: %+v, want 10 files and %d bytes", g1.Own, want)
	}
	if g1.Own.Cache < 1<<20 || g1.Own.Cache > 1<<21 {
		t.Errorf("own: %d bytes in the page cache, want those of one file", g1.Own.Cache)
	}
	if all := (api.Share{Apparent: want, Private: want, Fair: want}); g1.Disk != all || owner.Disk != all || owner.Own != g1.Own {
		t.Errorf("guest %+v, owner %+v; want %d bytes in both", g1, owner, want)
	}
	if g2.Disk != (api.Share{}) || g2.Own != (api.Own{}) {
		t.Errorf("the other guest: %+v, want nothing", g2)
	}
}

// TestMeasureHostile: neither names without end, nor directories in each
// other, nor changes at the same time keep the nest from answering, or lead it
// elsewhere.
func TestMeasureHostile(t *testing.T) {
	t.Parallel()
	needRoot(t)
	t.Run("many names", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		for i := range 600 {
			must(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), []byte("x"), 0o600))
		}
		tree, err := measureTree(context.Background(), dir, 500)
		must(t, err)
		if !tree.partial || tree.files != 500 {
			t.Errorf("%+v, want a part of 500 files", tree)
		}
		if tree, err = measureTree(context.Background(), dir, 600); err != nil || tree.partial || tree.files != 600 {
			t.Errorf("%+v, %v, want 600 files", tree, err)
		}
		late, cancel := context.WithCancel(context.Background())
		cancel()
		if tree, err = measureTree(late, dir, 600); err != nil || !tree.partial {
			t.Errorf("out of time: %+v, %v, want a part", tree, err)
		}
	})
	t.Run("deep", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		must(t, os.MkdirAll(filepath.Join(dir, strings.Repeat("d/", ownDepth+50)), 0o700))
		tree, err := measureTree(context.Background(), dir, 1000)
		must(t, err)
		if !tree.partial || tree.files != ownDepth+1 {
			t.Errorf("%+v, want a part of %d directories", tree, ownDepth+1)
		}
	})
	t.Run("not there", func(t *testing.T) {
		t.Parallel()
		if tree, err := measureTree(context.Background(), filepath.Join(t.TempDir(), "none"), 1); err != nil || tree != (ownTree{}) {
			t.Errorf("%+v, %v, want nothing", tree, err)
		}
	})
	t.Run("a symlink", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		must(t, os.Symlink("/", filepath.Join(dir, "link")))
		if tree, err := measureTree(context.Background(), filepath.Join(dir, "link"), 1000); err == nil {
			t.Errorf("%+v of what a symlink leads to", tree)
		}
	})
	t.Run("exchanges", func(t *testing.T) {
		t.Parallel()
		measureExchanges(t)
	})
}

// measureExchanges measures while a directory, a symlink to much more and a
// fifo take each other's names.
func measureExchanges(t *testing.T) {
	elsewhere, dir := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(elsewhere, "much"), make([]byte, 8<<20), 0o600))
	must(t, os.Mkdir(filepath.Join(dir, "a"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "a/x"), []byte("x"), 0o600))
	must(t, os.Symlink(elsewhere, filepath.Join(dir, "b")))
	must(t, os.WriteFile(filepath.Join(dir, "c"), []byte("x"), 0o600))
	must(t, unix.Mkfifo(filepath.Join(dir, "d"), 0o600))
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			default:
			}
			for _, pair := range [][2]string{{"a", "b"}, {"c", "d"}, {"b", "c"}} {
				_ = unix.Renameat2(unix.AT_FDCWD, filepath.Join(dir, pair[0]), unix.AT_FDCWD, filepath.Join(dir, pair[1]), unix.RENAME_EXCHANGE)
			}
		}
	}()
	defer func() { close(done); <-ended }()
	for start := time.Now(); time.Since(start) < time.Second; {
		tree, err := measureTree(context.Background(), dir, 1000)
		must(t, err)
		if tree.disk > 1<<20 || tree.cache > 1<<20 {
			t.Fatalf("%+v: it went elsewhere", tree)
		}
	}
}

// TestUsageWithEnvironments: the parts of all guests, with what nobody has,
// are the bytes of the store, also where guests have environments.
func TestUsageWithEnvironments(t *testing.T) {
	t.Parallel()
	specs, names := many(5)
	o, n := preparedFor(t, []string{"g1", "g2", "g3"}, specs)
	ctx := context.Background()
	var ids []repo.Digest
	for _, name := range names {
		ids = append(ids, o.ids[name])
	}
	must(t, n.State.SetReferences(ctx, "g1", ids[:4]))
	must(t, n.State.SetReferences(ctx, "g2", ids[1:4]))
	mustEnvironment(t, n, "g1", o.want(names[:4]...))
	mustEnvironment(t, n, "g2", o.want(names[1:4]...))
	mustEnvironment(t, n, "g3", o.want(names[:4]...)) // and no reference to a layer
	usage, err := n.Usage(ctx)
	must(t, err)
	stats, err := n.StoreStats(ctx)
	must(t, err)
	if stats.TreeBytes == 0 || usage.Unused.Disk == 0 || usage.Guests[2].Disk.Fair == 0 {
		t.Errorf("stats %+v, usage %+v; want bytes of trees, of nobody, and of a guest with an environment only", stats, usage)
	}
	for _, list := range [][]api.Use{usage.Guests, usage.Owners} {
		total := usage.Unused.Disk
		for _, u := range list {
			total += u.Disk.Fair
		}
		if total != stats.Bytes {
			t.Errorf("the parts are %d bytes, the store has %d", total, stats.Bytes)
		}
	}
}

// TestEnvironmentsGiveRoomBack: what environments took of the disk, they give
// back when nobody has them any more, to the block.
func TestEnvironmentsGiveRoomBack(t *testing.T) {
	t.Parallel()
	specs, names := many(8)
	o, n := preparedFor(t, []string{"g1", "g2"}, specs)
	ctx := context.Background()
	layers := filepath.Join(n.Store.Dir(), "layers")
	// The directories that have the layers stay once they are there.
	bytes := func() (total int64, names int) {
		tree, err := measureTree(ctx, n.Store.Dir(), 1<<20)
		must(t, err)
		shards, err := os.ReadDir(layers)
		must(t, err)
		for _, shard := range shards {
			var stat unix.Stat_t
			must(t, unix.Lstat(filepath.Join(layers, shard.Name()), &stat))
			tree.disk, tree.files = tree.disk-stat.Blocks*512, tree.files-1
		}
		return tree.disk, tree.files
	}
	before, beforeNames := bytes()
	mustEnvironment(t, n, "g1", o.want(names[:6]...))
	mustEnvironment(t, n, "g1", o.want(names...))
	mustEnvironment(t, n, "g2", o.want(names[2:]...))
	dropped(t, n)
	if with, _ := bytes(); with <= before {
		t.Fatalf("environments take %d bytes", with-before)
	}
	must(t, n.References(ctx, "g1", api.References{Environments: []repo.Digest{}}))
	must(t, n.RemoveGuest(ctx, "g2"))
	waitFor(t, "the disk", func() bool { // nobody is asked: the nest drops them by itself
		after, names := bytes()
		return after == before && names == beforeNames
	})
	mustHaveTrees(t, n)
	checkSound(t, n)
}
