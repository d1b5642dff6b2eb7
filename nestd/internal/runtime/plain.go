package runtime

// plain is for whoever makes the guest's namespaces himself.
func plain(c *Config, g Guest) {
	c.Restart = []string{
		"In the guest's mount namespace, before it enters its root:",
		"  mount --bind " + g.Directory + " ROOT" + g.Target,
		"  mount -o remount,bind,ro ROOT" + g.Target,
		"and in its root, each time it starts:",
		"  " + g.Target + "/stork mount",
	}
	c.Notes = []string{
		"The guest needs a mount namespace of its own with private or slave propagation, and CAP_SYS_ADMIN in the user namespace that owns it.",
	}
	if !g.HostUserNS {
		c.Notes = append(c.Notes, "That user namespace must be the guest's own: make it before, or with, the mount namespace.")
	}
}
