// Command nestd is the nest: the daemon that fetches, verifies and shares
// packages for every guest of a host, and the commands to operate it.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"stork/nestd/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	status := cli.Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}
