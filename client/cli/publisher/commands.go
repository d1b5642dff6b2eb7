package publisher

// Commands are a publisher's and an owner's.
type Commands struct {
	Key     keyCmd     `cmd:"" group:"Publisher" help:"Make and show keys."`
	Repo    repoCmd    `cmd:"" group:"Publisher" help:"Choose the repositories to publish to."`
	Publish publishCmd `cmd:"" group:"Publisher" help:"Sign packages and upload them."`
	Trust   trustCmd   `cmd:"" group:"Owner" help:"Say which packages your guests may install."`
}
