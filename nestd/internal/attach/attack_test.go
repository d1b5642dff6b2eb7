package attach

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// way is how a guest has the files of a layer.
type way struct {
	name string
	// make is a script that makes it: $L is the layer, $B the guest's own
	// directory, $U the one that the nest has given, $X an option for overlays.
	make string
	at   string // below $B; empty: the layer itself
	own  bool   // what the guest changes there is its own
	nest bool   // the nest mounts the layer there
}

var ways = []way{
	{name: "layer"},
	{name: "bind", make: "mkdir $B/m && mount --bind $L $B/m", at: "m"},
	{name: "a directory that the nest has placed", make: "mkdir $B/m", at: "m", nest: true},
	{name: "overlay", own: true, at: "m", make: "mount -t tmpfs own $B && mkdir $B/up $B/work $B/m &&" +
		" mount -t overlay overlay -o ${X}lowerdir=$L,upperdir=$B/up,workdir=$B/work $B/m"},
	{name: "overlay with the nest's upper", own: true, at: "m", make: "mount -t tmpfs own $B && mkdir $B/own $B/m $U/up $U/work &&" +
		" mount -t overlay overlay -o ${X}lowerdir=$B/own:$L,upperdir=$U/up,workdir=$U/work $B/m"},
}

// siege is a store and two guests, of which one attacks.
type siege struct {
	t       *testing.T
	store   *testStore
	attach  *Attacher
	want    Identity
	layer   string
	upper   string
	way     way
	guest   *testGuest
	other   *testGuest
	arena   arena
	before  string // fingerprint of the store
	attacks int
}

// beginSiege has a layer attached to both guests, and another one to one.
func beginSiege(t *testing.T, kind guestKind, w way) *siege {
	t.Helper()
	s := &siege{t: t, store: newStore(t), want: Identity{HostUserNS: !kind.users}, way: w, upper: newUpper(t)}
	s.layer = s.store.layer("shared")
	hidden := s.store.layer("hidden")
	must(t, unix.Mknod(filepath.Join(s.store.path(s.layer), "zero"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))))
	must(t, os.Chown(s.store.program(s.layer, "id", 0o755), 70000, 70000))
	must(t, unix.Chmod(filepath.Join(s.store.path(s.layer), "id"), 0o4755))
	must(t, os.MkdirAll(filepath.Join(s.store.path(s.layer), "tree", "etc"), 0o755)) // the same, to be placed
	for _, name := range []string{"file", "zero", "id"} {
		must(t, os.Link(filepath.Join(s.store.path(s.layer), name), filepath.Join(s.store.path(s.layer), "tree", name)))
	}
	s.attach, s.guest, s.other = s.store.open(), startGuest(t, kind), startGuest(t, kind)
	attach(t, s.attach, s.other, s.want, s.layer, hidden)
	s.arena = arena{Layer: filepath.Join(s.guest.view, s.layer), View: s.guest.view, Hidden: hidden, Root: s.store.dir,
		Secret: "content of hidden", Other: s.other.cmd.Process.Pid, OtherView: s.other.view, Nest: os.Getpid(),
		OtherSocket: s.other.dir + "/nest.sock", HiddenDir: handleOf(t, s.store.path(hidden)),
		HiddenFile: handleOf(t, filepath.Join(s.store.path(hidden), "file"))}
	s.before = s.store.fingerprint()
	return s
}

func handleOf(t *testing.T, path string) handle {
	t.Helper()
	h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, path, 0)
	must(t, err)
	return handle{h.Type(), h.Bytes()}
}

// try has the guest make one attack, on mounts made anew, and says whether it
// has worked.
func (s *siege) try(name string) error {
	s.t.Helper()
	s.attacks++
	attach(s.t, s.attach, s.guest, s.want, s.layer)
	base := filepath.Join(filepath.Dir(s.guest.dir), "attack"+itoa(s.attacks))
	for _, dir := range []string{base, base + "/own", base + "/scratch"} {
		must(s.t, os.Mkdir(dir, 0o777))
		must(s.t, os.Chmod(dir, 0o777))
	}
	a := s.arena
	a.At, a.Scratch = a.Layer, base+"/scratch"
	clear := "umount -l " + a.Scratch + " " + base + "/own/m " + base + "/own " + a.Layer + " 2>/dev/null; "
	if s.way.make != "" {
		option := ""
		if !s.want.HostUserNS {
			option = "userxattr,"
		}
		if strings.Contains(s.way.make, "$U") {
			a.Upper = attachUpper(s.t, s.attach, s.guest, s.want, s.upper)
			clear += "chattr -R -i -a " + a.Upper + "/* 2>/dev/null; rm -rf " + a.Upper + "/up " + a.Upper + "/work; "
		}
		s.guest.sh(fmt.Sprintf("L=%s B=%s/own U=%s X=%s\n%s", a.Layer, base, a.Upper, option, s.way.make))
		a.At = filepath.Join(base, "own", s.way.at)
	}
	if s.way.nest {
		change := Change{Kind: Place, Path: a.At, Layer: s.layer, Source: "/tree"}
		must(s.t, s.attach.Place(context.Background(), s.guest.peer, s.want, s.guest.host, s.guest.view, []Change{change}))
	}
	resp := s.guest.do(guestRequest{Op: "attack", Arg: name, Arena: a})
	s.guest.sh(clear + "mount --make-rprivate /")
	if resp.Err == "" {
		return nil
	}
	return fmt.Errorf("%s", resp.Err)
}

// unharmed looks at everything that must be as it was.
func (s *siege) unharmed(name string) {
	s.t.Helper()
	if s.store.fingerprint() != s.before {
		s.t.Fatalf("%s: the store has changed", name)
	}
	if got := s.other.sh("cat " + filepath.Join(s.other.view, s.layer, "file")); got != "content of shared" {
		s.t.Errorf("%s: the other guest reads %q", name, got)
	}
	if n := mountsOf(s.t, s.other.cmd.Process.Pid, s.other.view); n != 2 {
		s.t.Errorf("%s: the other guest has %d mounts in its view, want 2", name, n)
	}
	if n := mountsOf(s.t, os.Getpid(), filepath.Dir(s.guest.dir)); n != 0 {
		s.t.Errorf("%s: %d mounts in the nest's namespace", name, n)
	}
}

// TestAttacks has guests' root make every attack, whichever way it has the
// files and whosever its users are. On a layer none works; on an overlay it
// reaches the guest's own at most.
func TestAttacks(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for users, kind := range map[string]guestKind{"own users": own, "host's users": shared} {
		for _, w := range ways {
			t.Run(users+" on "+w.name, func(t *testing.T) {
				t.Parallel()
				s := beginSiege(t, kind, w)
				worked := 0
				for _, attack := range attacks() {
					if !kind.users && (attack.host || attack.destroys) {
						continue
					}
					err := s.try(attack.name)
					if err == nil {
						worked++
					}
					if err == nil && !attack.harmless && (!w.own || kind.users && attack.reads) {
						t.Errorf("%s: %s: it worked", attack.group, attack.name)
					}
					s.unharmed(attack.name)
				}
				if w.own && worked == 0 {
					t.Error("the guest could not even change what is its own")
				}
				t.Logf("%d attacks, of which %d reached no further than the guest's own", s.attacks, worked)
			})
		}
	}
}

// TestAttacksCanWork makes the same attacks on a directory that is open to
// them, so that none fails above for a reason of its own.
func TestAttacksCanWork(t *testing.T) {
	t.Parallel()
	needRoot(t)
	g := startGuest(t, shared)
	for i, attack := range attacks() {
		if attack.uncontrolled != "" || attack.host || attack.destroys {
			continue
		}
		base := filepath.Join(filepath.Dir(g.dir), "open"+itoa(i))
		for _, dir := range []string{"v/etc", "v/up", "v/work", "t"} {
			must(t, os.MkdirAll(filepath.Join(base, dir), 0o755))
		}
		must(t, os.WriteFile(filepath.Join(base, "v", "file"), []byte("x"), 0o644))
		resp := g.do(guestRequest{Op: "attack", Arg: attack.name, Arena: arena{At: base + "/v", Layer: base + "/v", View: base, Scratch: base + "/t"}})
		if resp.Err != "" && !attack.harmless && !strings.Contains(attack.name, "umount") && !strings.Contains(attack.name, "remount") {
			t.Errorf("guest could not %s: %s", attack.name, resp.Err)
		}
		g.sh("mount --make-rprivate /; umount -l " + base + "/t " + base + "/v 2>/dev/null; chattr -R -i -a " + base + "/v; true")
	}
}

// TestHostUsersAreNoBoundary shows what docs/threat-model.md says of guests
// that have CAP_SYS_ADMIN in the host's user namespace: these attacks work.
func TestHostUsersAreNoBoundary(t *testing.T) {
	t.Parallel()
	needRoot(t)
	s := beginSiege(t, shared, ways[0])
	for _, attack := range attacks() {
		if !attack.host {
			continue
		}
		if err := s.try(attack.name); err != nil {
			t.Errorf("%s: %s: refused (%v): say so in docs/threat-model.md", attack.group, attack.name, err)
		}
	}
}

// TestAttacksAreDocumented: each group of attacks has its line in the table of
// docs/threat-model.md.
func TestAttacksAreDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/threat-model.md")
	must(t, err)
	names := map[string]bool{}
	for _, attack := range attacks() {
		if names[attack.name] {
			t.Errorf("two attacks are named %q", attack.name)
		}
		names[attack.name] = true
		if !strings.Contains(string(page), "\n| "+attack.group) {
			t.Errorf("%q is not in the table", attack.group)
		}
	}
}

// TestPlainReadOnlyIsNot shows what the lock is for: the same remounts clear
// the flag of a mount that is only read-only.
func TestPlainReadOnlyIsNot(t *testing.T) {
	t.Parallel()
	needRoot(t)
	g := startGuest(t, shared)
	dir := filepath.Join(filepath.Dir(g.dir), "plain")
	must(t, os.Mkdir(dir, 0o755))
	g.sh("mount --bind " + dir + " " + dir + " && mount -o remount,bind,ro " + dir)
	if resp := g.do(guestRequest{Op: "sh", Arg: ": > " + dir + "/new"}); resp.Err == "" {
		t.Error("wrote to a read-only mount")
	}
	g.sh("mount -o remount,bind,rw " + dir + " && : > " + dir + "/new")
}
