package cli

type publisherCmd struct {
	Add    publisherAddCmd    `cmd:"" help:"Let a publisher publish, or take over its newer keys."`
	Remove publisherRemoveCmd `cmd:"" help:"End a publisher's right to publish."`
	List   publisherListCmd   `cmd:"" help:"List publishers and owners."`
}
