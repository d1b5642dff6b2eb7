package e2e

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// testKernel is where make deps-kernel puts a kernel of Debian's.
const testKernel = "/usr/local/lib/stork-test/kernel"

// kernelImage finds the kernel that virtual machines boot.
func kernelImage() (string, error) {
	found, err := filepath.Glob(filepath.Join(testKernel, "boot/vmlinuz-*"))
	if err != nil || len(found) != 1 {
		return "", errors.Join(err, fmt.Errorf("there are %d kernels in %s", len(found), testKernel))
	}
	return found[0], nil
}

// wantedModules are what a machine's drivers are made of, where the kernel
// has not got them built in.
var wantedModules = []string{"virtio_pci", "virtio_blk", "ext4", "virtio_console", "virtiofs", "overlay"}

// modules finds modules by name, each after those that it depends on.
func modules(wanted []string) (paths []string, err error) {
	files := map[string]string{}
	err = filepath.WalkDir(filepath.Join(testKernel, "lib/modules"), func(path string, d fs.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(filepath.Base(path), ".ko"); ok {
			files[strings.ReplaceAll(name, "-", "_")] = path
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	var add func(name string) error
	add = func(name string) error {
		path, ok := files[strings.ReplaceAll(name, "-", "_")]
		if !ok || slices.Contains(paths, path) {
			return nil // built in, or there already
		}
		f, err := elf.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Section(".modinfo").Data()
		if err != nil {
			return err
		}
		for field := range bytes.SplitSeq(info, []byte{0}) {
			depends, _ := bytes.CutPrefix(field, []byte("depends="))
			if len(depends) == len(field) || len(depends) == 0 {
				continue
			}
			for other := range strings.SplitSeq(string(depends), ",") {
				if err := add(other); err != nil {
					return err
				}
			}
		}
		paths = append(paths, path)
		return nil
	}
	for _, name := range wanted {
		if err := add(name); err != nil {
			return nil, fmt.Errorf("module %s: %w", name, err)
		}
	}
	return paths, nil
}

// archive is a cpio archive in the kernel's format (newc).
type archive struct{ bytes.Buffer }

func (a *archive) add(name string, mode uint32, content []byte) {
	fmt.Fprintf(a, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", 0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0)
	a.WriteString(name + "\x00")
	a.pad()
	a.Write(content)
	a.pad()
}

func (a *archive) pad() { a.Write(make([]byte, -a.Len()&3)) }

// initramfs loads the modules and goes over to the disk.
func initramfs() ([]byte, error) {
	var a archive
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{"bin", "dev", "root", "lib"} {
		a.add(dir, 0o40755, nil)
	}
	a.add("bin/busybox", 0o100755, busybox)
	script := "#!/bin/busybox sh\nset -e\n"
	paths, err := modules(wantedModules)
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		a.add("lib/"+filepath.Base(path), 0o100644, content)
		script += "busybox insmod /lib/" + filepath.Base(path) + "\n"
	}
	script += "busybox mount -t devtmpfs dev /dev\nbusybox mount -t ext4 /dev/vda /root\n" +
		"busybox mount -o move /dev /root/dev\nexec busybox switch_root /root /sbin/init\n"
	a.add("init", 0o100755, []byte(script))
	a.add("TRAILER!!!", 0, nil)
	return a.Bytes(), nil
}

// makeMachineTree makes a machine's root.
const makeMachineTree = `set -e
mkdir -p $1/bin $1/sbin $1/usr/bin $1/usr/lib $1/dev $1/proc $1/sys $1/run $1/etc $1/var/lib $1/var/log $1/tmp $1/root $1/opt
cp -L /bin/busybox $1/bin
for name in $(busybox --list); do test $name = busybox || ln -s busybox $1/bin/$name; done
ln -s /run/stork/stork $1/usr/bin/stork
echo root:x:0:0:root:/root:/bin/sh >$1/etc/passwd
echo root:x:0: >$1/etc/group
printf 'ID=test\nNAME=test\n' >$1/etc/os-release`

// machineInit is the first program of a machine: what fstab and the unit of
// stork mount are in others. Then it is a shell on the port of the test's.
const machineInit = `#!/bin/sh
export PATH=/bin:/usr/bin HOME=/root
mount -o remount,rw /
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs -o mode=755 run /run
mkdir /run/stork
mount -t virtiofs -o ro stork /run/stork
/run/stork/stork mount >/run/mount.log 2>&1
for port in /sys/class/virtio-ports/*; do
	read name <$port/name
	test $name = test.shell && shell=/dev/${port##*/}
done
while :; do sh <>$shell >&0 2>&1; done
`

// makeDisk makes a machine's disk.
func makeDisk(dir, image string) error {
	tree := filepath.Join(dir, "tree")
	if out, err := exec.Command("sh", "-c", makeMachineTree, "sh", tree).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if err := os.WriteFile(filepath.Join(tree, "sbin/init"), []byte(machineInit), 0o755); err != nil {
		return err
	}
	if out, err := exec.Command("mke2fs", "-q", "-t", "ext4", "-d", tree, image, "64M").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}
