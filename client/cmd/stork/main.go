// Command stork installs packages in a guest, and publishes them.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"stork/client/cli"
)

// garbage lets the heap grow to four times what is in use, and not twice,
// before it is collected: most runs are over before that.
const garbage = 300

func main() {
	debug.SetGCPercent(garbage)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := cli.Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}
