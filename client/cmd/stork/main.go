// Command stork installs packages in a guest, and publishes them.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"stork/client/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := cli.Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}
