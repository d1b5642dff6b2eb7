package runtime

import (
	"cmp"
	"fmt"
	"path/filepath"
)

// lxc: lxc.container.conf(5).
//
// A system that boots mounts a tmpfs on /run unless something is mounted
// there already, and that would hide what is bound below it: so /run comes
// first.
//
// lxc.hook.start, which runs in the container, takes no arguments, so the
// mounts are brought back by a hook of the host's that enters the container.
// It may fail, for the guest is to start without the nest, too.
func lxc(c *Config, g Guest) {
	dir := "/var/lib/lxc/" + g.Name
	c.File = &File{
		Path: dir + "/stork.conf",
		Content: fmt.Sprintf(header+`lxc.mount.entry = tmpfs run tmpfs rw,nosuid,nodev,mode=755,create=dir 0 0
lxc.mount.entry = %s %s none bind,ro,create=dir 0 0
lxc.hook.start-host = /bin/sh -c 'nsenter --target "$LXC_PID" --all --root --wd %s/stork mount || true'
`, g.Name, g.Directory, g.Target[1:], g.Target),
		Use: "lxc.include = " + dir + "/stork.conf", UseIn: dir + "/config", Parent: dir,
	}
	c.Restart = []string{"The hook brings the mounts back before the guest's init starts."}
	c.Notes = []string{"Under AppArmor the container must be allowed to mount: lxc.apparmor.allow_nesting = 1."}
	if g.HostUserNS {
		return
	}
	root := cmp.Or(g.RootUser, usualRoot)
	c.Host = []string{fmt.Sprintf("setfacl -m u:%d:x %s", root, filepath.Dir(g.Directory))}
	c.Notes = append(c.Notes, fmt.Sprintf("LXC binds as the container's root, user %d of the host if lxc.idmap says so (else give --root-user); "+
		"in /etc/subuid and /etc/subgid these users must be root's and nobody else's.", root))
}

// usualRoot is the root of LXC's containers, unless lxc.idmap says otherwise.
const usualRoot = 100000
