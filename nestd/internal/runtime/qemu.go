package runtime

import (
	"fmt"
	"slices"
	"strings"

	"stork/nestd/api"
)

// qemu: qemu(1), systemd.service(5). A machine has no namespace on the host
// that could be entered, and shares no socket with it: `nestd guest vm`, as a
// service, is both for it. What it has installed comes to it by virtiofs, and
// its requests leave it by a serial port (virtio-serial).
func qemu(c *Config, g Guest) {
	files, channel := g.Sockets+"/fs.sock", g.Sockets+"/channel.sock"
	c.Command = "qemu-system-x86_64 -object memory-backend-memfd,id=ram,size=SIZE,share=on -machine q35,memory-backend=ram"
	c.Arguments = []string{
		"-chardev", "socket,id=stork-files,path=" + files,
		"-device", "vhost-user-fs-pci,chardev=stork-files,tag=" + api.FilesTag,
		"-device", "virtio-serial-pci",
		"-chardev", "socket,id=stork-channel,path=" + channel,
		"-device", "virtserialport,chardev=stork-channel,name=" + api.PortName,
	}
	command := append(slices.Clone(g.Nestd), "guest", "vm", g.Name)
	if g.RootUser != 0 {
		command = append(command, fmt.Sprintf("--root-user=%d", g.RootUser))
	}
	line := strings.Join(append(command, "--user="+g.QEMUUser), " ")
	c.File = &File{
		Path: "/etc/systemd/system/stork-vm-" + g.Name + ".service",
		Content: fmt.Sprintf(header+`[Unit]
Description=Packages of the virtual machine %[1]s
Wants=nestd.service
After=nestd.service

[Service]
Type=notify
ExecStart=%[2]s
Restart=always
LimitNOFILE=1048576

[Install]
WantedBy=multi-user.target
`, g.Name, line),
		Use: "systemctl enable --now stork-vm-" + g.Name, UseIn: "a shell, before the machine starts",
	}
	c.Restart = append([]string{
		"In the guest, once:",
		"  echo '" + api.FilesTag + " " + g.Target + " virtiofs ro,nofail,x-systemd.before=stork-mount.service 0 0' >> /etc/fstab",
	}, unit...)
	c.Notes = []string{
		"The machine's memory must be one that virtiofsd can map: share=on, as above.",
	}
	if g.HostUserNS {
		c.Notes = append(c.Notes, "A machine has users of its own, --host-userns or not.")
	}
}
