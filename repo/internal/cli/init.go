package cli

import (
	"fmt"

	"stork/repo/internal/home"
	"stork/repo/program"
)

type initCmd struct {
	Dir              string `arg:"" help:"Where the repository shall be: an empty directory, or none."`
	Keys             string `required:"" help:"Where the root and targets keys shall be. They are needed to add and remove publishers, never to serve: keep them off this machine." placeholder:"DIR"`
	RootKeys         int    `help:"Number of root keys." default:"3"`
	RootThreshold    int    `help:"How many of them must sign." default:"2"`
	TargetsKeys      int    `help:"Number of targets keys." default:"1"`
	TargetsThreshold int    `help:"How many of them must sign." default:"1"`
	JSON             bool   `help:"Print JSON." name:"json"`
}

// Run makes a repository. What goes to standard output is the digest to pin
// and no more.
func (c *initCmd) Run(env *environment, streams program.Streams) error {
	h, err := home.Init(home.InitOptions{
		Dir: c.Dir, Offline: c.Keys, Disk: env.disk, Now: env.now,
		RootKeys: c.RootKeys, RootThreshold: c.RootThreshold,
		TargetsKeys: c.TargetsKeys, TargetsThreshold: c.TargetsThreshold,
	})
	if err != nil {
		return err
	}
	if c.JSON {
		return streams.JSON(map[string]string{"dir": h.Dir(), "keys": h.OfflineKeys, "root": h.Root.String()})
	}
	fmt.Fprintf(streams.Err, "The repository is in %s, its offline keys (%s, %s) in %s.\n"+
		"Keep copies of the keys apart from each other, and off this machine.\n"+
		"Everybody who uses the repository pins this digest:\n",
		h.Dir(), count(c.RootKeys, "root key"), count(c.TargetsKeys, "targets key"), h.OfflineKeys)
	_, err = fmt.Fprintln(streams.Out, h.Root)
	return err
}
