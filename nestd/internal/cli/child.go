package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"stork/nestd/internal/fetch"
	"stork/repo/program"
)

// The first argument by which nestd knows that it is one of its own children.
const (
	unpackerCommand = "unpacker-child"
	fetcherCommand  = "fetcher-child"
	placerCommand   = "placer-child"
	machineCommand  = "vm-child"
	relayCommand    = "vm-relay-child"
)

// self is this program, also if its file was replaced since, and also for a
// user who may not enter the directory it lies in.
const self = "/proc/self/exe"

func runFetcher(ctx context.Context, args []string, stderr io.Writer) int {
	if len(args) != 1 {
		fmt.Fprintln(stderr, "the fetcher is started by nestd only")
		return program.Usage
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	if err := fetch.Child(ctx, args[0], log); err != nil {
		log.Error("fetcher stopped", "err", err)
		return program.Failed
	}
	return program.OK
}
