package attach

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// reachAttacks go for what belongs to others: layers that the guest is not
// entitled to, other guests, the nest.
func reachAttacks() []attack {
	list := []attack{
		{group: handles, name: "a file of another layer by handle", reads: true, host: true, try: func(a *arena) error {
			return eachMount(a, func(mount int) error {
				fd, err := unix.OpenByHandleAt(mount, a.HiddenFile.kernel(), unix.O_RDONLY)
				if err != nil {
					return err
				}
				return hasSecret(a, fd)
			})
		}},
		{group: handles, name: "the directory of another layer by handle", reads: true, host: true, try: func(a *arena) error {
			return eachMount(a, func(mount int) error {
				fd, err := unix.OpenByHandleAt(mount, a.HiddenDir.kernel(), unix.O_RDONLY|unix.O_DIRECTORY)
				if err != nil {
					return err
				}
				defer unix.Close(fd)
				return readsSecret(a, fd, "file")
			})
		}},
		{group: handles, name: "a file of another layer by handle, for writing", reads: true, host: true, try: func(a *arena) error {
			return eachMount(a, func(mount int) error {
				fd, err := unix.OpenByHandleAt(mount, a.HiddenFile.kernel(), unix.O_RDWR)
				if err != nil {
					return err
				}
				defer unix.Close(fd)
				_, err = unix.Pwrite(fd, []byte(a.Secret), 0)
				return err
			})
		}},
		{group: handles, name: "a shared file by handle, for writing", try: func(a *arena) error {
			h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, a.At+"/file", 0)
			if err != nil {
				return err
			}
			mount, err := unix.Open(a.At, unix.O_RDONLY|unix.O_DIRECTORY, 0)
			if err != nil {
				return err
			}
			defer unix.Close(mount)
			return closed(unix.OpenByHandleAt(mount, h, unix.O_RDWR))
		}},
	}
	for who, pid := range map[string]func(a *arena) int{
		"another guest": func(a *arena) int { return a.Other }, "the nest": func(a *arena) int { return a.Nest }} {
		list = append(list, processAttacks(who, pid)...)
	}
	return append(list,
		attack{group: processes, name: "another guest's view by /proc/PID/root", reads: true, host: true, try: func(a *arena) error {
			return readsSecret(a, unix.AT_FDCWD, fmt.Sprintf("/proc/%d/root%s/%s/file", a.Other, a.OtherView, a.Hidden))
		}},
		attack{group: processes, name: "another guest's socket by /proc/PID/root", reads: true, host: true, try: func(a *arena) error {
			conn, err := net.Dial("unix", fmt.Sprintf("/proc/%d/root%s", a.Other, a.OtherSocket))
			if err != nil {
				return err
			}
			return conn.Close()
		}},
		attack{group: processes, name: "hold up what others open by fanotify", reads: true, host: true, try: func(a *arena) error {
			return closed(unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_CLOEXEC, unix.O_RDONLY))
		}},
		attack{group: processes, name: "the store by the nest's /proc/PID/root", reads: true, host: true, try: func(a *arena) error {
			return readsSecret(a, unix.AT_FDCWD, fmt.Sprintf("/proc/%d/root%s/%s/%s/file", a.Nest, a.Root, a.Hidden[:2], a.Hidden))
		}},
	)
}

// processAttacks go for a process in other namespaces.
func processAttacks(who string, pid func(a *arena) int) []attack {
	list := []attack{
		{name: "enter the mounts of " + who, try: func(a *arena) error {
			ns, err := os.Open(proc(pid(a), "ns/mnt"))
			if err != nil {
				return err
			}
			return ns.Close() // who may open it may enter it
		}},
		{name: "read the memory of " + who, try: func(a *arena) error {
			memory, err := os.Open(proc(pid(a), "mem"))
			if err != nil {
				return err
			}
			return memory.Close()
		}},
		{name: "open a descriptor of " + who, try: func(a *arena) error {
			_, err := os.Readlink(proc(pid(a), "fd/0"))
			return err
		}},
		{name: "take a descriptor of " + who, try: func(a *arena) error {
			fd, err := unix.PidfdOpen(pid(a), 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return closed(unix.PidfdGetfd(fd, 0, 0))
		}},
	}
	for i := range list {
		list[i].group, list[i].reads, list[i].host = processes, true, true
	}
	return list
}

func proc(pid int, name string) string { return "/proc/" + strconv.Itoa(pid) + "/" + name }

// eachMount tries an attack by way of every mount that the guest has of the
// store's file system.
func eachMount(a *arena, try func(mount int) error) error {
	var failed error
	for _, at := range []string{a.Layer, a.At, a.View, a.Upper, a.Scratch} {
		if at == "" {
			continue
		}
		mount, err := unix.Open(at, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		err = try(mount)
		unix.Close(mount)
		if err == nil {
			return nil
		}
		failed = errors.Join(failed, fmt.Errorf("by %s: %w", at, err))
	}
	return failed
}

func (h handle) kernel() unix.FileHandle { return unix.NewFileHandle(h.Type, h.Bytes) }

// encode is the handle as an overlay's origin has it (struct ovl_fb in the
// kernel's fs/overlayfs/overlayfs.h).
func (h handle) origin(uuid [16]byte) []byte {
	b := []byte{0, 0xfb, byte(21 + len(h.Bytes)), 0, byte(h.Type)}
	if native := uint16(1); *(*byte)(unsafe.Pointer(&native)) == 0 {
		b[3] = 1 // big endian
	}
	return append(append(b, uuid[:]...), h.Bytes...)
}
