// Command stork-guest is stork as a guest runs it: quick, and without what most
// installs do not need. It leaves the rest to the whole program, stork-full,
// beside it.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"stork/client/cli/guest"
	"stork/repo/program"
)

// garbage lets the heap grow to four times what is in use, and not twice,
// before it is collected: most runs are over before that.
const garbage = 300

func main() {
	debug.SetGCPercent(garbage)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	streams := program.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	status := guest.Run(ctx, os.Args[1:], streams, guest.Whole)
	stop()
	os.Exit(status)
}
