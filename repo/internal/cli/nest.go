package cli

type nestCmd struct {
	Add    nestAddCmd    `cmd:"" help:"Approve a nest."`
	Remove nestRemoveCmd `cmd:"" help:"Take the approval of a nest back."`
	List   nestListCmd   `cmd:"" help:"List the approved nests."`
}
