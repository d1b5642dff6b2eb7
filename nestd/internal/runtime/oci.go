package runtime

import "fmt"

// podman: podman-run(1), podman-systemd.unit(5). A volume is private unless
// it is said otherwise; that is what is wanted.
func podman(c *Config, g Guest) {
	c.Command = "podman run"
	c.Arguments = []string{"--volume=" + g.Directory + ":" + g.Target + ":ro"}
	c.File = &File{
		Path:    "/etc/containers/systemd/" + g.Name + ".container.d/stork.conf",
		Content: fmt.Sprintf(header+"[Container]\nVolume=%s:%s:ro\n", g.Name, g.Directory, g.Target),
		Version: "Podman 5",
	}
	if !g.Placement {
		c.Arguments = append(c.Arguments, "--cap-add=SYS_ADMIN")
		c.File.Content += "AddCapability=CAP_SYS_ADMIN\n"
	}
	c.Restart = prefix
	c.Notes = append(ociNotes(g), "Under SELinux the container needs --security-opt=label=disable, for the nest's files carry the host's labels.")
	if !g.HostUserNS {
		c.Notes = append(c.Notes, "The container needs users of its own: --userns=auto, or a map with --uidmap and --gidmap. "+
			"Run it as root of the host: a rootless container can not reach the directory.")
	}
}

// docker: the engine's run reference. The default AppArmor profile has
// "deny mount".
func docker(c *Config, g Guest) {
	c.Command = "docker run"
	c.Arguments = []string{"--volume=" + g.Directory + ":" + g.Target + ":ro"}
	if !g.Placement {
		c.Arguments = append(c.Arguments, "--cap-add=SYS_ADMIN", "--security-opt=apparmor=unconfined")
	}
	c.Restart = prefix
	c.Notes = ociNotes(g)
	if g.HostUserNS {
		c.Notes = append(c.Notes, "If the daemon runs with userns-remap, this container needs --userns=host.")
		return
	}
	c.Notes = append(c.Notes, "The daemon must run with userns-remap: without it containers have the host's users, and are registered with --host-userns.")
}

func ociNotes(g Guest) []string {
	if g.Placement {
		return []string{"The nest places the guest's mounts. Overlays take SYS_ADMIN in the container: add the guest with --no-placement for that."}
	}
	return []string{"Without SYS_ADMIN the guest works too: with symlinks to what is shared, or, if it is added with --placement, with mounts that the nest places."}
}
