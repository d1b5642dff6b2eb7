package runtime

import "fmt"

// nspawn: systemd.nspawn(5). A container has CAP_SYS_ADMIN unless that is
// taken from it, and /run is mounted before what is bound below it.
func nspawn(c *Config, g Guest) {
	c.Command = "systemd-nspawn"
	c.Arguments = []string{"--bind-ro=" + g.Directory + ":" + g.Target}
	c.File = &File{
		Path:    "/etc/systemd/nspawn/" + g.Name + ".nspawn",
		Content: fmt.Sprintf(header+"[Files]\nBindReadOnly=%s:%s\n", g.Name, g.Directory, g.Target),
	}
	c.Restart = unit
	if g.HostUserNS {
		c.File.Content += "[Exec]\nPrivateUsers=no\n"
		return
	}
	c.Notes = []string{"The container needs private users: -U, which systemd-nspawn@" + g.Name + ".service has."}
}
