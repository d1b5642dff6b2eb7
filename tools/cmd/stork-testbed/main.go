// Command stork-testbed runs many hosts and guests on one machine.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"stork/tools/testbed/box"
	"stork/tools/testbed/cli"
)

func main() {
	if box.IsChild(os.Args) {
		os.Exit(box.RunChild(os.Args))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(cli.Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
