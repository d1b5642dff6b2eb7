package attach

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// placeGuest is a guest with a directory of its own, $D, in which things are
// placed.
func placeGuest(t *testing.T, kind guestKind) (*testGuest, string) {
	t.Helper()
	g := startGuest(t, kind)
	dir := filepath.Join(filepath.Dir(g.dir), "guest")
	must(t, os.Mkdir(dir, 0o777))
	must(t, os.Chmod(dir, 0o777))
	g.sh("cd " + dir + " && mkdir dir && touch file other && chmod 0 file other")
	return g, dir
}

func (g *testGuest) place(a *Attacher, kind guestKind, changes ...Change) error {
	return a.Place(context.Background(), g.peer, Identity{HostUserNS: !kind.users}, g.host, g.view, changes)
}

func TestPlace(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for name, kind := range map[string]guestKind{"own user namespace": own, "host's": shared} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			one, two := s.layer("one"), s.layer("two")
			before := s.fingerprint()
			a := s.open()
			g, dir := placeGuest(t, kind)
			mounts := func() int { return mountsOf(t, g.cmd.Process.Pid, dir) }
			file, tree := filepath.Join(dir, "file"), filepath.Join(dir, "dir")
			put := []Change{{Place, file, one, "/file"}, {Place, tree, one, "/etc"}}
			for range 2 { // what is there already stays
				must(t, g.place(a, kind, put...))
				if got := g.sh("cat " + file + " " + tree + "/secret"); got != "content of oneroot only" {
					t.Fatalf("guest reads %q", got)
				}
				if n := mounts(); n != 2 {
					t.Fatalf("%d mounts, want 2", n)
				}
			}
			for _, script := range []string{
				"echo x > $F", ": > $T/new", "chmod 777 $F", "touch $T/secret", "mv $T/secret $T/moved", "chattr +i $F",
				"mount -o remount,bind,rw $F && echo x > $F", "mount -o remount,rw $T && : > $T/new",
				"mount -o remount,bind,dev $T", "unshare -m sh -c 'mount -o remount,bind,rw $T && : > $T/new'",
			} {
				if resp := g.do(guestRequest{Op: "sh", Arg: "F=" + file + " T=" + tree + "\n" + script}); resp.Err == "" {
					t.Errorf("guest could: %s", script)
				}
			}
			must(t, g.place(a, kind, Change{Replace, file, two, "/file"}, Change{Replace, filepath.Join(dir, "other"), two, "/file"}))
			if got := g.sh("cat " + file + " " + filepath.Join(dir, "other")); got != "content of twocontent of two" {
				t.Errorf("guest reads %q", got)
			}
			if n := mounts(); n != 3 {
				t.Errorf("%d mounts, want 3", n)
			}
			must(t, g.place(a, kind, Change{Kind: Remove, Path: file}, Change{Kind: Clear, Path: tree}, Change{Kind: Clear, Path: filepath.Join(dir, "other")}))
			must(t, g.place(a, kind, Change{Kind: Remove, Path: file}, Change{Kind: Clear, Path: tree})) // again
			if n := mounts(); n != 0 {
				t.Errorf("%d mounts left", n)
			}
			if got := g.sh("stat -c %s:%a " + file); got != "0:0" {
				t.Errorf("what lay below is %q", got)
			}
			if after := s.fingerprint(); after != before {
				t.Error("the store has changed")
			}
			if n := mountsOf(t, os.Getpid(), filepath.Dir(g.dir)); n != 0 {
				t.Errorf("%d mounts on the host", n)
			}
		})
	}
}

// TestPlaceRefusals: what is not in the guest's own tree of files is no
// target, and nothing but the nest's own mounts is ever taken away.
func TestPlaceRefusals(t *testing.T) {
	t.Parallel()
	needRoot(t)
	s := newStore(t)
	layer := s.layer("a")
	a := s.open()
	place := func(path string) Change { return Change{Place, path, layer, "/file"} }
	dir := func(path string) Change { return Change{Place, path, layer, "/etc"} }
	cases := []struct {
		name   string
		script string // run in the guest first, in $D
		change func(g *testGuest, d string) Change
		want   error
	}{
		{"a relative path", "", func(*testGuest, string) Change { return place("etc/hostname") }, ErrTarget},
		{"dot dot", "", func(_ *testGuest, d string) Change { return place(d + "/dir/../file") }, ErrTarget},
		{"the root", "", func(*testGuest, string) Change { return dir("/") }, ErrTarget},
		{"no path", "", func(*testGuest, string) Change { return place("") }, ErrTarget},
		{"nothing there", "", func(_ *testGuest, d string) Change { return place(d + "/none") }, ErrTarget},
		{"a symlink", "ln -s file link", func(_ *testGuest, d string) Change { return place(d + "/link") }, ErrTarget},
		{"through a symlink", "ln -s dir link; touch dir/f", func(_ *testGuest, d string) Change { return place(d + "/link/f") }, ErrTarget},
		{"another kind", "", func(_ *testGuest, d string) Change { return place(d + "/dir") }, ErrTarget},
		{"/proc/self/root", "", func(_ *testGuest, d string) Change { return place("/proc/self/root" + d + "/file") }, ErrTarget},
		{"a magic link", "", func(*testGuest, string) Change { return dir("/proc/self/cwd") }, ErrTarget},
		{"a file in /proc", "", func(*testGuest, string) Change { return place("/proc/sys/kernel/core_pattern") }, ErrTarget},
		{"a directory in /proc", "", func(*testGuest, string) Change { return dir("/proc/self/attr") }, ErrTarget},
		{"/proc", "", func(*testGuest, string) Change { return dir("/proc") }, ErrTarget},
		{"/sys", "", func(*testGuest, string) Change { return dir("/sys/kernel") }, ErrTarget},
		{"a mask in /proc", "mount -t tmpfs x /proc/driver && mkdir /proc/driver/d", func(*testGuest, string) Change { return dir("/proc/driver/d") }, ErrTarget},
		{"the nest's directory", "", func(g *testGuest, _ string) Change { return dir(g.view) }, ErrTarget},
		{"a device", "", func(*testGuest, string) Change { return place("/dev/null") }, ErrTarget},
		{"a symlink of the layer", "", func(_ *testGuest, d string) Change { return Change{Place, d + "/file", layer, "/link"} }, ErrNoLayer},
		{"out of the layer", "", func(_ *testGuest, d string) Change { return Change{Place, d + "/file", layer, "/../../x"} }, ErrNoLayer},
		{"the whole layer", "", func(_ *testGuest, d string) Change { return Change{Place, d + "/dir", layer, "/"} }, ErrNoLayer},
		{"no such layer", "", func(_ *testGuest, d string) Change {
			return Change{Place, d + "/file", strings.Repeat("0", 64), "/file"}
		}, ErrNoLayer},
		{"no such kind", "", func(_ *testGuest, d string) Change { return Change{"x", d + "/file", layer, "/file"} }, ErrTarget},
		{"somebody else's mount is taken away", "mount --bind /etc/hostname file", func(_ *testGuest, d string) Change { return Change{Kind: Remove, Path: d + "/file"} }, ErrTarget},
		{"somebody else's mount is replaced", "mount --bind /etc/hostname file", func(_ *testGuest, d string) Change { return Change{Replace, d + "/file", layer, "/file"} }, ErrTarget},
		{"/proc is taken away", "", func(*testGuest, string) Change { return Change{Kind: Remove, Path: "/proc"} }, ErrTarget},
		{"the view is taken away", "", func(g *testGuest, _ string) Change { return Change{Kind: Remove, Path: g.dir} }, ErrTarget},
		{"a layer is taken out of the view", "", func(g *testGuest, _ string) Change { return Change{Kind: Remove, Path: filepath.Join(g.view, layer)} }, ErrTarget},
		{"a mount in a layer in the view", "", func(g *testGuest, _ string) Change { return place(filepath.Join(g.view, layer, "etc/secret")) }, ErrTarget},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g, d := placeGuest(t, shared)
			attach(t, a, g, Identity{HostUserNS: true}, layer)
			if c.script != "" {
				g.sh("cd " + d + "\n" + c.script)
			}
			before := mountsOf(t, g.cmd.Process.Pid, "/")
			wantError(t, g.place(a, shared, c.change(g, d)), c.want)
			if after := mountsOf(t, g.cmd.Process.Pid, "/"); after != before {
				t.Errorf("%d mounts in the guest, were %d", after, before)
			}
		})
	}
}

// TestPlaceLeavesOthers: what lies on top of, or below, the nest's own mounts
// stays.
func TestPlaceLeavesOthers(t *testing.T) {
	t.Parallel()
	needRoot(t)
	s := newStore(t)
	layer := s.layer("a")
	a := s.open()
	g, d := placeGuest(t, shared)
	g.sh("cd " + d + " && echo below > other && mount --bind other file")
	must(t, g.place(a, shared, Change{Place, d + "/file", layer, "/file"}))
	must(t, g.place(a, shared, Change{Kind: Clear, Path: d + "/file"}))
	if got := g.sh("cat " + d + "/file"); got != "below" {
		t.Errorf("guest reads %q, want what was mounted before", got)
	}
}

// TestPlaceLockedMount: a mount that the guest's namespace has got with its
// beginning from a more privileged one stays, and that is no failure of the
// nest's, which would be logged each time.
func TestPlaceLockedMount(t *testing.T) {
	t.Parallel()
	needRoot(t)
	s := newStore(t)
	layer := s.layer("a")
	a := s.open()
	file := filepath.Join(openDir(t), "file")
	must(t, os.WriteFile(file, nil, 0o644))
	must(t, unix.Mount(filepath.Join(s.path(layer), "file"), file, "", unix.MS_BIND, ""))
	t.Cleanup(func() { must(t, unix.Unmount(file, unix.MNT_DETACH)) })
	g := startGuest(t, own)
	for _, kind := range []Kind{Remove, Clear} {
		wantError(t, g.place(a, own, Change{Kind: kind, Path: file}), ErrTarget)
	}
	if n := mountsOf(t, g.cmd.Process.Pid, file); n != 1 {
		t.Errorf("%d mounts, want the one that was there", n)
	}
}

// TestPlacePeers: who may ask is as with attaching.
func TestPlacePeers(t *testing.T) {
	t.Parallel()
	needRoot(t)
	s := newStore(t)
	layer := s.layer("a")
	a := s.open()
	g, d := placeGuest(t, guestKind{})
	wantError(t, g.place(a, shared, Change{Place, d + "/file", layer, "/file"}), ErrNotEntitled)
	g, d = placeGuest(t, shared)
	wantError(t, g.place(a, own, Change{Place, d + "/file", layer, "/file"}), ErrNotEntitled)
	g.kill()
	wantError(t, g.place(a, shared, Change{Place, d + "/file", layer, "/file"}), ErrNotAttached)
	// Nobody but the guest's root, or every user of a guest could mount a
	// published package's /etc/passwd over the guest's.
	for _, kind := range []guestKind{own, shared} {
		kind.nobody = true
		g, d := placeGuest(t, kind)
		wantError(t, g.place(a, kind, Change{Place, d + "/file", layer, "/file"}), ErrNotEntitled)
		attach(t, a, g, Identity{HostUserNS: !kind.users}, layer) // which changes nothing of the guest's own
	}
}

// TestPlaceStaysOffTheHost: a directory that the guest has in common with the
// host, so that mounts would travel, is no target.
func TestPlaceStaysOffTheHost(t *testing.T) {
	t.Parallel()
	needRoot(t)
	s := newStore(t)
	layer := s.layer("a")
	a := s.open()
	common := openDir(t)
	must(t, os.Mkdir(filepath.Join(common, "d"), 0o777))
	must(t, unix.Mount(common, common, "", unix.MS_BIND, ""))
	t.Cleanup(func() { must(t, unix.Unmount(common, unix.MNT_DETACH)) })
	must(t, unix.Mount("", common, "", unix.MS_SHARED, ""))
	g := startGuest(t, guestKind{mounts: true, peers: true}) // keeps its propagation
	err := g.place(a, shared, Change{Place, filepath.Join(common, "d"), layer, "/etc"})
	wantError(t, err, ErrTarget)
	if n := mountsOf(t, os.Getpid(), filepath.Join(common, "d")); n != 0 {
		t.Errorf("%d mounts on the host", n)
	}
}

// TestPlaceRaces: the guest exchanges directories for symlinks to other places
// while the nest places. Nothing ever appears outside of the guest, nor in the
// guest where it is not asked for but by the guest's own renaming.
func TestPlaceRaces(t *testing.T) {
	t.Parallel()
	needRoot(t)
	s := newStore(t)
	layer := s.layer("a")
	before := s.fingerprint()
	a := s.open()
	g, d := placeGuest(t, shared)
	g.sh("cd " + d + ` && mkdir real victim && touch real/f victim/f && ln -s /etc link && ln -s ` + d + `/victim link2 && ln -s /proc/self/root/` + d + ` link3
(while [ -d . ]; do for l in link link2 link3; do mv -T real aside; mv -T $l real; mv -T real $l; mv -T aside real; done; done) >/dev/null 2>&1 & echo $! > pid`)
	placed, refused := 0, 0
	deadline := time.Now().Add(20 * time.Second)
	for i := range 300 {
		err := g.place(a, shared, Change{Place, d + "/real/f", layer, "/file"})
		switch {
		case err == nil:
			placed++
		case errors.Is(err, ErrTarget):
			refused++
		default:
			t.Fatalf("attempt %d: %v", i, err)
		}
		_ = g.place(a, shared, Change{Kind: Clear, Path: d + "/real/f"})
		if time.Now().After(deadline) {
			break
		}
	}
	g.sh("kill $(cat " + d + "/pid)")
	t.Logf("placed %d, refused %d", placed, refused)
	if placed == 0 || refused == 0 {
		t.Errorf("placed %d, refused %d: there was no race", placed, refused)
	}
	info, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", g.cmd.Process.Pid))
	must(t, err)
	for line := range strings.Lines(string(info)) {
		at := strings.Fields(line)[4]
		if strings.Contains(line, layer) && at != d+"/real/f" && at != d+"/aside/f" {
			t.Errorf("mounted on %s", at)
		}
	}
	if n := mountsOf(t, os.Getpid(), d); n != 0 {
		t.Errorf("%d mounts on the host", n)
	}
	if after := s.fingerprint(); after != before {
		t.Error("the store has changed")
	}
}

// TestPlaceHeldUp: a guest whose files do not answer waits alone.
func TestPlaceHeldUp(t *testing.T) {
	t.Parallel()
	needRoot(t)
	if _, err := exec.LookPath("sh"); err != nil {
		skipOrFail(t, "needs sh")
	}
	s := newStore(t)
	layer := s.layer("a")
	a := s.open()
	a.placer = []string{"/bin/sh", "-c", "sleep 60"} // a placer in a lookup that does not end
	slow, d := placeGuest(t, shared)
	done := make(chan error, 1)
	go func() { done <- slow.place(a, shared, Change{Place, d + "/file", layer, "/file"}) }()
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	err := a.Place(ctx, slow.peer, Identity{HostUserNS: true}, slow.host, slow.view, nil)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("another call of the same guest: %v, want it to wait", err)
	}
	other, _ := placeGuest(t, shared)
	attach(t, a, other, Identity{HostUserNS: true}, layer)
	select {
	case err := <-done:
		wantError(t, err, ErrNotAttached)
	case <-time.After(2 * placeAnswer):
		t.Error("the guest waits without end")
	}
}

// TestPlaceLongTable: a guest that makes the list of its mounts long is told
// so, and takes no memory of the nest's for it.
func TestPlaceLongTable(t *testing.T) {
	t.Parallel()
	needRoot(t)
	s := newStore(t)
	layer := s.layer("a")
	a := s.open()
	g, d := placeGuest(t, shared)
	// 8192 mounts with paths of 3000 bytes, each rbind twice as many as before.
	g.sh("cd " + d + ` && name=$(printf '%0250d' 0) && for i in $(seq 12); do mkdir $name && cd $name || exit 1; done
mkdir a && cd a && mkdir $(seq -f n%.0f 13) && mount --bind . . && cd ../a && for i in $(seq 13); do mount --rbind . n$i || exit 1; done`)
	err := g.place(a, shared, Change{Place, d + "/file", layer, "/file"})
	wantError(t, err, ErrTarget)
	if !strings.Contains(err.Error(), "mounts take over") {
		t.Error(err)
	}
}

// TestPlaceMany: one placer does many, and leaves the nest as it was.
func TestPlaceMany(t *testing.T) {
	t.Parallel()
	needRoot(t)
	s := newStore(t)
	layer := s.layer("many")
	a := s.open()
	g, d := placeGuest(t, own)
	const n = 1000
	changes := make([]Change, n)
	for i := range changes {
		name := fmt.Sprint("f", i)
		must(t, os.WriteFile(filepath.Join(s.path(layer), name), []byte(name), 0o644))
		changes[i] = Change{Place, filepath.Join(d, name), layer, "/" + name}
	}
	g.sh("cd " + d + " && seq -f f%.0f 0 999 | xargs touch")
	begin := time.Now()
	must(t, g.place(a, own, changes...))
	t.Logf("%d mounts in %v", n, time.Since(begin))
	if got := mountsOf(t, g.cmd.Process.Pid, d); got != n {
		t.Errorf("%d mounts, want %d", got, n)
	}
	if got := g.sh("cat " + d + "/f999"); got != "f999" {
		t.Errorf("guest reads %q", got)
	}
	begin = time.Now()
	must(t, g.place(a, own, changes[:1]...))
	t.Logf("one more in %v", time.Since(begin))
	for i := range changes {
		changes[i].Kind = Clear
	}
	must(t, g.place(a, own, changes...))
	if got := mountsOf(t, g.cmd.Process.Pid, d); got != 0 {
		t.Errorf("%d mounts left", got)
	}
}
