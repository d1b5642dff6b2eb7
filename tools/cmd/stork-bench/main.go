// Command stork-bench measures Stork beside the tools of today.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"stork/tools/bench/cli"
	"stork/tools/testbed/box"
)

func main() {
	if box.IsChild(os.Args) {
		os.Exit(box.RunChild(os.Args))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := cli.Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}
