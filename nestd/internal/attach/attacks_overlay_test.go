package attach

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// overlayAttacks have overlayfs, which acts with the rights of who mounted it,
// look where the guest may not: by attributes that it finds in the upper
// directory, which the guest can write, and by its options.
func overlayAttacks() []attack {
	other := func(a *arena) string { return "../" + a.Hidden }
	within := func(*arena) string { return "etc" }
	list := []attack{
		{name: "redirect of a directory to another layer", try: func(a *arena) error {
			return crafted(a, craft{redirect: "/" + other(a), read: "d/file"})
		}},
		{name: "redirect of a directory to another layer, relative", try: func(a *arena) error {
			return crafted(a, craft{redirect: other(a), read: "d/file"})
		}},
		{name: "metacopy of another layer's file", try: func(a *arena) error {
			return crafted(a, craft{metacopy: "/" + other(a) + "/file", read: "f"})
		}},
		{name: "metacopy of another layer's file, by its handle", try: func(a *arena) error {
			return crafted(a, craft{metacopy: "/etc/none", origin: &a.HiddenFile, read: "f"})
		}},
		{name: "origin in another layer", try: func(a *arena) error {
			return crafted(a, craft{origin: &a.HiddenFile, read: "f"})
		}},
		{name: "lower directory in another guest", try: func(a *arena) error {
			return crafted(a, craft{lower: fmt.Sprintf("/proc/%d/root%s/%s", a.Other, a.OtherView, a.Hidden), read: "file"})
		}},
		{name: "lower directory above the layer", try: func(a *arena) error {
			return crafted(a, craft{lower: a.Layer + "/..", read: a.Hidden + "/file"})
		}},
		{name: "data-only layer above the layer", try: func(a *arena) error {
			return crafted(a, craft{lower: a.Layer + "::" + a.View, metacopy: "/" + a.Hidden + "/file", read: "f"})
		}},
		// The same within the layer, so that the others do not fail for a
		// reason of their own: with the host's users it works.
		{name: "control: redirect within the layer", host: true, try: func(a *arena) error {
			b := *a
			b.Secret = "root only"
			return crafted(&b, craft{redirect: "/" + within(a), read: "d/secret"})
		}},
		{name: "control: metacopy within the layer", host: true, try: func(a *arena) error {
			b := *a
			b.Secret = "root only"
			return crafted(&b, craft{metacopy: "/" + within(a) + "/secret", read: "f"})
		}},
	}
	for i := range list {
		list[i].group, list[i].reads = overlays, true
		if !list[i].host {
			list[i].uncontrolled = "see those within the layer"
		}
	}
	return list
}

// craft is an upper directory that leads somewhere.
type craft struct {
	redirect string  // of the directory d
	metacopy string  // of the file f
	origin   *handle // of the file f
	lower    string  // or the layer
	read     string  // where the secret would be
}

// crafted mounts it in all ways that the guest could, and reads.
func crafted(a *arena, c craft) error {
	if err := unix.Mount("crafted", a.Scratch, "tmpfs", 0, ""); err != nil {
		return err
	}
	defer unix.Unmount(a.Scratch, unix.MNT_DETACH)
	var failed error
	for _, options := range []string{"userxattr", "userxattr,metacopy=on,redirect_dir=on", "metacopy=on,redirect_dir=on", "redirect_dir=follow", "index=on,metacopy=on"} {
		if err := craftedWith(a, c, options); err == nil {
			return nil
		} else {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", options, err))
		}
	}
	return failed
}

func craftedWith(a *arena, c craft, options string) error {
	dir, err := os.MkdirTemp(a.Scratch, "")
	if err != nil {
		return err
	}
	prefix := "trusted.overlay."
	if options[0] == 'u' {
		prefix = "user.overlay."
	}
	for _, sub := range []string{"up", "work", "m", "up/d"} {
		if err := os.Mkdir(dir+"/"+sub, 0o755); err != nil {
			return err
		}
	}
	if err := c.write(a, dir+"/up", prefix); err != nil {
		return err
	}
	lower := c.lower
	if lower == "" {
		lower = a.Layer
	}
	options += ",lowerdir=" + lower + ",upperdir=" + dir + "/up,workdir=" + dir + "/work"
	if err := unix.Mount("crafted", dir+"/m", "overlay", 0, options); err != nil {
		return err
	}
	defer unix.Unmount(dir+"/m", unix.MNT_DETACH)
	return readsSecret(a, unix.AT_FDCWD, dir+"/m/"+c.read)
}

func (c craft) write(a *arena, up, prefix string) error {
	if c.redirect != "" {
		if err := unix.Setxattr(up+"/d", prefix+"redirect", []byte(c.redirect), 0); err != nil {
			return err
		}
	}
	if c.metacopy == "" && c.origin == nil {
		return nil
	}
	if err := os.WriteFile(up+"/f", nil, 0o644); err != nil {
		return err
	}
	if err := os.Truncate(up+"/f", int64(len(a.Secret))); err != nil {
		return err
	}
	attributes := map[string][]byte{}
	if c.metacopy != "" {
		attributes["metacopy"], attributes["redirect"] = []byte{}, []byte(c.metacopy)
	}
	if c.origin != nil {
		attributes["origin"] = c.origin.origin(fsUUID(a.Layer))
	}
	for name, value := range attributes {
		if err := unix.Setxattr(up+"/f", prefix+name, value, 0); err != nil {
			return err
		}
	}
	return nil
}

// fsUUID is the identity of a file system, if it has one (FS_IOC_GETFSUUID).
func fsUUID(path string) (uuid [16]byte) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return uuid
	}
	defer unix.Close(fd)
	var answer [17]byte
	if ioctl(fd, 0x80111500, unsafe.Pointer(&answer)) == nil {
		copy(uuid[:], answer[1:])
	}
	return uuid
}
