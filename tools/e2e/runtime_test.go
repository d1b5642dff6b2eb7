package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// makeHost makes a machine of the testbed a host for container runtimes: its
// mounts are shared, as systemd has them; it has one cgroup hierarchy, in
// which it is in a group of its own; and what runtimes keep below /run, /var
// and /etc is not the real host's.
const makeHost = `set -e
mount --make-rshared /
umount --recursive --lazy /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
echo 1 >/sys/fs/cgroup/$1/cgroup.procs
for dir in /run /etc/systemd /etc/containers /var/lib/lxc; do
	test ! -d $dir || mount -t tmpfs -o mode=755 none $dir
done
echo root:$2:65536 >/run/subid
for file in /etc/subuid /etc/subgid; do mount --bind /run/subid $file; done
if test -d /etc/containers; then
	cat >/etc/containers/containers.conf <<-end
		[containers]
		cgroups = "disabled"
		pids_limit = 0
		netns = "none"
		log_driver = "none"
		[engine]
		cgroup_manager = "cgroupfs"
		events_logger = "none"
		runtime = "crun"
		tmp_dir = "/run/libpod"
	end
	cat >/etc/containers/storage.conf <<-end
		[storage]
		driver = "vfs"
		graphroot = "$3/containers"
		runroot = "/run/containers"
	end
fi`

// makeTree makes the root of a container, with the few programs that tests
// need and nothing else of the host's.
const makeTree = `set -e
mkdir -p $1
cd $1
mkdir -p etc usr/bin usr/sbin usr/lib usr/lib64 var/lib var/log tmp run/stork proc dev sys root opt mnt home
for dir in bin sbin lib lib64; do ln -s usr/$dir $dir; done
for program in cat chmod env grep id mkdir mount sh sleep stat test umount; do
	cp -L /usr/bin/$program usr/bin/$program
done
ldd usr/bin/* | awk '$1 ~ "^/" {print $1} $3 ~ "^/" {print $3}' | sort -u | while read -r library; do
	mkdir -p .${library%/*}
	cp -L $library .$library
done
ln -s /run/stork/stork usr/bin/stork
echo root:x:0:0:root:/root:/bin/sh >etc/passwd
echo root:x:0: >etc/group
printf 'ID=test\nNAME=test\n' >etc/os-release
: >etc/machine-id
chmod 1777 tmp
chown -R -h $2:$2 .`

// containerUser is the host's user that is root in containers with users of
// their own: in no range that the host gives away, and no other guest's.
const containerUser = 3 << 20

// host makes a machine of the script's testbed one for container runtimes.
func host(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg)
	usage(ts, len(args) == 1, "host NEST")
	b := bedOf(ts)
	group, err := makeGroup()
	ts.Check(err)
	b.group = group
	ts.Check(os.MkdirAll(ts.Getenv("ROOTS"), 0o711))
	if status := b.in(ts, args[0], "sh", "-c", makeHost, "sh", filepath.Base(group), strconv.Itoa(containerUser), ts.Getenv("ROOTS")); status != 0 {
		ts.Fatalf("cannot make %s a host: status %d", args[0], status)
	}
}

// makeGroup makes a cgroup, so that those of the containers can be found and
// removed with it.
func makeGroup() (string, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup2"))
	if err != nil {
		return "", err
	}
	if len(mounts) == 0 {
		return "", errors.New("no cgroup2 is mounted")
	}
	return os.MkdirTemp(mounts[0].Mountpoint, "stork-e2e-")
}

// removeGroup removes a cgroup and those below it, if there is one, as soon as
// the last process in it has ended. systemd-nspawn makes one of the same name
// in systemd's own hierarchy, where there is that.
func removeGroup(group string) error {
	if group == "" {
		return nil
	}
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup", "cgroup2"))
	for _, m := range mounts {
		err = errors.Join(err, removeEmpty(filepath.Join(m.Mountpoint, filepath.Base(group))))
	}
	return err
}

func removeEmpty(group string) (err error) {
	for start := time.Now(); time.Since(start) < patience; time.Sleep(10 * time.Millisecond) {
		var dirs []string
		err = filepath.WalkDir(group, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return err
		})
		for i := len(dirs) - 1; err == nil && i >= 0; i-- {
			err = unix.Rmdir(dirs[i])
		}
		if !errors.Is(err, unix.EBUSY) {
			break
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// rootfs makes the root of a container at $ROOTS/NAME.
func rootfs(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg)
	usage(ts, len(args) == 2 && (args[1] == "own" || args[1] == "host"), "rootfs NAME own|host")
	user := 0
	if args[1] == "own" {
		user = containerUser
	}
	out, err := exec.Command("sh", "-c", makeTree, "sh", filepath.Join(ts.Getenv("ROOTS"), args[0]), strconv.Itoa(user)).CombinedOutput()
	if err != nil {
		ts.Fatalf("cannot make the root of %s: %v: %s", args[0], err, out)
	}
}

// shared holds the inode that a container's stat -c %d:%i has printed, or a
// machine's stat -c %i, to those that the store of the nest has for a path.
func shared(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) == 2, "shared NEST PATH")
	got := strings.TrimSpace(ts.ReadFile("stdout"))
	found, err := filepath.Glob(filepath.Join(bedOf(ts).dir, args[0], "store/layers/*/*", args[1]))
	ts.Check(err)
	if len(found) == 0 {
		ts.Fatalf("no layer has %s", args[1])
	}
	have := false
	for _, path := range found {
		var st unix.Stat_t
		ts.Check(unix.Stat(path, &st))
		have = have || got == fmt.Sprintf("%d:%d", st.Dev, st.Ino) || got == strconv.FormatUint(st.Ino, 10)
	}
	if have == neg {
		ts.Fatalf("%s is inode %s; in the store: %t", args[1], got, have)
	}
}
