package attach

import (
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// attack is one thing that a guest's root tries with what the nest gave it.
type attack struct {
	group string // what docs/threat-model.md calls it
	name  string
	try   func(*arena) error // in the guest; nil says that it has worked

	// host says that a guest in the host's user namespace succeeds:
	// TestHostUsersAreNoBoundary shows that it does.
	host bool
	// reads is an attack on what the guest may not see. Others may work on an
	// overlay, where a guest changes what is its own.
	reads bool
	// harmless is what a guest may do: that nobody else notices is looked at.
	harmless bool
	// destroys is what would go for the machine's disk, if it were not refused.
	destroys bool
	// uncontrolled says why the attack does not work in an open directory
	// either.
	uncontrolled string
}

// arena is where an attack takes place, as the guest is told.
type arena struct {
	At      string // has the layer's files: the layer, a bind of it, or an overlay
	Layer   string // the layer in the view
	View    string
	Scratch string // the guest's own, and empty
	Upper   string // the directory that the nest has given, or empty
	Root    string // where the layers are in the nest's own namespace

	Hidden      string // a layer that this guest has not got: its name
	HiddenDir   handle
	HiddenFile  handle
	Secret      string // what is in its file
	Other       int    // a process of the guest that has it
	OtherView   string // the view of that one
	OtherSocket string
	Nest        int // the nest's process
}

// handle is a struct file_handle.
type handle struct {
	Type  int32
	Bytes []byte
}

// The groups of attacks.
const (
	writes      = "write to a file"
	descriptors = "write through descriptors, /proc and memory maps"
	inodes      = "chmod, chown, times, xattrs, chattr"
	names       = "make, rename, remove"
	links       = "hard links"
	devices     = "device nodes and set-user-ID programs"
	remounts    = "remount"
	clones      = "clone the mount and clear its flags"
	tree        = "bind, move, unmount, pivot_root, propagation"
	ioctls      = "ioctls of the file system"
	handles     = "file handles"
	processes   = "/proc and descriptors of others"
	overlays    = "crafted overlays"
)

// attacks are all of them.
func attacks() []attack {
	list := shellAttacks()
	list = append(list, fileAttacks()...)
	list = append(list, mountAttacks()...)
	list = append(list, reachAttacks()...)
	return append(list, overlayAttacks()...)
}

// sh tries a script. $V is where the files are, $T the guest's own directory.
func sh(group, script string) attack {
	return attack{group: group, name: script, try: func(a *arena) error {
		cmd := exec.Command("sh", "-c", script)
		cmd.Env = append(os.Environ(), "V="+a.At, "T="+a.Scratch)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %.200s", err, out)
		}
		return nil
	}}
}

func shellAttacks() []attack {
	locked := "a user namespace locks every mount"
	list := []attack{
		sh(writes, "echo x > $V/file"),
		sh(writes, "echo x >> $V/file"),
		sh(writes, "truncate -s 0 $V/file"),
		sh(writes, "dd if=/dev/zero of=$V/file bs=1 count=1 conv=notrunc"),
		sh(names, ": > $V/new"),
		sh(names, "mkdir $V/new"),
		sh(names, "rm -f $V/file && ! test -e $V/file"),
		sh(names, "mv $V/file $V/moved"),
		sh(names, "ln -s x $V/soft"),
		sh(names, "mkfifo $V/fifo"),
		sh(inodes, "touch $V/file"),
		sh(inodes, "chmod 777 $V/file"),
		sh(inodes, "chown 1:1 $V/file"),
		sh(inodes, "chattr +i $V/file"),
		sh(inodes, "chattr +a $V/etc"),
		sh(inodes, "setfattr -n user.x -v y $V/file"),
		sh(inodes, "setfattr -n trusted.x -v y $V/file"),
		sh(links, "ln $V/file $V/hard"),
		sh(links, "ln $V/file $T/hard"),
		sh(devices, "mknod $V/null c 1 3"),
		sh(devices, "mknod $V/disk b 8 0"),
		sh(remounts, "mount -o remount,rw $V && : > $V/new"),
		sh(remounts, "mount -o remount,bind,rw $V && : > $V/new"),
		sh(remounts, "mount -o remount,bind,dev $V && : > $V/new"),
		sh(remounts, "unshare -m sh -c 'mount -o remount,bind,rw $V && : > $V/new'"),
		sh(remounts, "unshare -Urm sh -c 'mount -o remount,bind,rw $V && : > $V/new'"),
		sh(tree, "mount --bind $V $T && mount -o remount,bind,rw $T && : > $T/new"),
		sh(tree, "mount --rbind $V $T; mount -o remount,bind,rw $T && : > $T/new"),
		sh(tree, "mount --make-shared $V; mount -o remount,bind,rw $V && : > $V/new"),
		sh(tree, "mount --move $V $T && mount -o remount,bind,rw $T && : > $T/new"),
		sh(tree, "unshare -Urm sh -c 'umount $V; : > $V/new'"),
		sh(tree, "unshare -m sh -c 'mount --bind $V $V && cd $V && pivot_root . . && : > /new'"),
		sh(tree, "cd $V && umount -l $V && : > ./new"),
		sh(overlays, "mount -t overlay overlay -o lowerdir=/usr/share,upperdir=$V/up,workdir=$V/work $T && : > $T/new"),
	}
	list = append(list, harmlessAttacks()...)
	for i := range list {
		switch list[i].name {
		case "mount -o remount,rw $V && : > $V/new", "mount -o remount,bind,rw $V && : > $V/new", "mount -o remount,bind,dev $V && : > $V/new",
			"unshare -m sh -c 'mount -o remount,bind,rw $V && : > $V/new'", "mount --make-shared $V; mount -o remount,bind,rw $V && : > $V/new",
			"mount --move $V $T && mount -o remount,bind,rw $T && : > $T/new", "cd $V && umount -l $V && : > ./new",
			"unshare -m sh -c 'mount --bind $V $V && cd $V && pivot_root . . && : > /new'":
			list[i].uncontrolled = "there is no mount"
		case "unshare -Urm sh -c 'mount -o remount,bind,rw $V && : > $V/new'", "unshare -Urm sh -c 'umount $V; : > $V/new'":
			list[i].uncontrolled = locked
		}
	}
	return list
}

// harmlessAttacks are what the guest may do to its own mounts.
func harmlessAttacks() []attack {
	list := []attack{
		sh(tree, "mount --make-rshared / && mount --bind /etc $V"),
		sh(tree, "mount --make-rshared / && mount -t tmpfs none $V/etc"),
		sh(tree, "mount --make-rshared / && umount -R -l $V"),
		sh(tree, "mount --make-shared $V && umount -l $V"),
		sh(tree, "umount $V; : > $V/new"), // on a layer it is the nest's directory
	}
	for i := range list {
		list[i].harmless = true
	}
	return append(list,
		attack{group: devices, name: "open a device node of a layer", uncontrolled: "there is none", try: func(a *arena) error {
			return closed(unix.Open(a.At+"/zero", unix.O_RDONLY, 0))
		}},
		attack{group: devices, name: "set-user-ID program of a user that the guest has not", reads: true, host: true,
			try: sh(devices, `test "$(setpriv --reuid 1000 --regid 1000 --clear-groups $V/id -u)" != 1000`).try},
	)
}
