package store

import (
	"os"

	"golang.org/x/sys/unix"
)

// topDir is FS_TOPDIR_FL (linux/fs.h), which chattr(1) calls T.
const topDir = 0x00020000

// spread tells the file system that the directories below dir have nothing to
// do with each other. ext4 then begins each in a block group of its own, one
// with room, instead of searching for free inodes where the layers before have
// taken them and others were just removed: that is up to five times faster.
// It is a hint: where it means nothing, nothing is lost.
func spread(dir string) {
	f, err := os.Open(dir)
	if err != nil {
		return
	}
	defer f.Close()
	flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil || flags&topDir != 0 {
		return
	}
	_ = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(flags|topDir))
}
