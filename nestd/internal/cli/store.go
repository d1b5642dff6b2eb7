package cli

// storeCommands are the commands on the store.
type storeCommands struct {
	Stats storeStatsCommand `cmd:"" help:"Show what the store holds and what sharing saves."`
	Check storeCheckCommand `cmd:"" help:"Hash everything in the store again."`
}
