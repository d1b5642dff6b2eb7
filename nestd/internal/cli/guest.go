package cli

// guestCommands are the commands on guests.
type guestCommands struct {
	Add    guestAddCommand    `cmd:"" help:"Register a guest and print the directory to bind into it."`
	Show   guestShowCommand   `cmd:"" help:"Show a guest, and what its runtime has to be told."`
	Remove guestRemoveCommand `cmd:"" help:"Remove a guest and what it refers to."`
	List   guestListCommand   `cmd:"" help:"List the guests."`
	VM     guestVMCommand     `cmd:"" name:"vm" help:"Serve a guest that is a virtual machine: its files by virtiofs, its requests by a serial port."`
}
