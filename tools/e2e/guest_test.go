package e2e

import (
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// guestUser is the host's user that is root in the guest.
const guestUser = 1 << 20

// makeRoot makes a guest's root on the nest's host: the host's programs, and
// directories of its own.
const makeRoot = `root=$1 dir=$2 user=$3
mkdir -p $root && mount -t tmpfs -o mode=755,uid=$user,gid=$user none $root && cd $root || exit
mkdir -p etc usr var/lib var/log tmp run/stork proc dev sys root opt mnt
for d in bin sbin lib lib64; do ln -s usr/$d $d; done
mkdir -p usr && mount --rbind /usr usr
cp /etc/passwd /etc/group etc/
printf 'ID=test\nNAME=test\n' >etc/os-release
touch etc/machine-id
chown -R -h $user:$user etc var tmp run proc dev sys root opt mnt bin sbin lib lib64
chmod 1777 tmp`

// startGuest makes the guest of plain namespaces, with a user namespace of
// its own, and the printed directory at /run/stork.
func (w *hosts) startGuest(t *testing.T) {
	t.Helper()
	nest := w.machine("nest")
	nest.run(t, "set -- /srv/g1 "+w.guest+" "+strconv.Itoa(guestUser)+"\n"+makeRoot+`
mount --bind $dir run/stork && mount -o remount,bind,ro run/stork`)
	cmd := exec.Command("/usr/bin/sleep", "infinity")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Chroot:      "/srv/g1",
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		UidMappings: []syscall.SysProcIDMap{{HostID: guestUser, Size: 1 << 16}},
		GidMappings: []syscall.SysProcIDMap{{HostID: guestUser, Size: 1 << 16}},
		Credential:  &syscall.Credential{NoSetGroups: true},
	}
	startIn(t, cmd, nest.pid)
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	pid := strconv.Itoa(cmd.Process.Pid)
	w.machines["guest"] = &machine{pid: cmd.Process.Pid, home: "/root", args: []string{
		"nsenter", "--target", pid, "--user", "--mount", "--pid", "--net", "--uts", "--ipc", "--root", "--wd"}}
	w.machine("guest").run(t, "mount -t proc proc /proc")
}

// startIn starts a command from within another process's mount namespace.
func startIn(t *testing.T, cmd *exec.Cmd, pid int) {
	t.Helper()
	result := make(chan error)
	go func() {
		// The thread is changed for good, so it ends with the goroutine.
		runtime.LockOSThread()
		result <- func() error {
			namespace, err := os.Open("/proc/" + strconv.Itoa(pid) + "/ns/mnt")
			if err != nil {
				return err
			}
			defer namespace.Close()
			if err := unix.Unshare(unix.CLONE_FS); err != nil {
				return err
			}
			if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNS); err != nil {
				return err
			}
			return cmd.Start()
		}()
	}()
	if err := <-result; err != nil {
		t.Fatalf("cannot start the guest: %v", err)
	}
}

// nspawn installs in a second guest of the same nest, under systemd-nspawn.
func (w *hosts) nspawn(t *testing.T, owner string) {
	t.Helper()
	if _, err := exec.LookPath("systemd-nspawn"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("systemd-nspawn is not installed: make deps installs it")
		}
		t.Log("without systemd-nspawn, which is not installed")
		return
	}
	nest := w.machine("nest")
	out := nest.run(t, "nestd guest add g2 --owner sha256:"+owner)
	dir := strings.Replace(w.guest, "/g1", "/g2", 1)
	if !strings.Contains(out, dir) {
		t.Fatalf("nestd guest add prints %q, and not %s", out, dir)
	}
	start := time.Now()
	user := strconv.Itoa(2 * guestUser)
	group, err := makeGroup()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := removeGroup(group); err != nil {
			t.Errorf("cannot remove the cgroup: %v", err)
		}
	}()
	out = nest.run(t, "echo $$ >"+group+"/cgroup.procs\n(set -- /srv/g2 "+dir+" "+user+"\n"+makeRoot+`
) && systemd-nspawn --quiet --pipe --register=no --keep-unit --private-users=`+user+`:65536 --private-network -D /srv/g2 --bind-ro=`+dir+`:/run/stork \
	/bin/sh -c 'PATH=/run/stork:$PATH; stork install -y hello && /opt/hello/hello && stork verify && stork remove -y hello && test ! -e /opt/hello' </dev/null`)
	t.Logf("systemd-nspawn, in %s: %s", time.Since(start).Round(time.Millisecond), out)
	if !strings.Contains(out, "\nhello\n") {
		t.Errorf("under systemd-nspawn: %s", out)
	}
}
