package cli

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"stork/repo/internal/check"
	"stork/repo/program"
)

type checkCmd struct {
	location
	JSON bool `help:"Print JSON." name:"json"`
}

// Run verifies every file. It may run beside the server.
func (c *checkCmd) Run(ctx context.Context, env *environment, streams program.Streams) error {
	h, err := c.open(env)
	if err != nil {
		return err
	}
	report, err := check.Run(ctx, h, runtime.NumCPU())
	if err != nil {
		return err
	}
	if c.JSON {
		err = streams.JSON(report)
	} else {
		for _, p := range report.Problems {
			fmt.Fprintln(streams.Out, p)
		}
		_, err = fmt.Fprintf(streams.Out, "Checked %s, %s, %s, %s, %s, %s, %s.\n", count(report.Packages, "package"),
			count(report.Blobs, "blob"), count(report.Documents, "document"),
			count(report.Metadata, "metadata file"), count(report.Packs, "pack"), count(report.Deltas, "delta"),
			count(report.Frames, "file")+" of frames")
	}
	if err == nil && len(report.Problems) > 0 {
		err = &program.Error{Status: exitProblems, Err: errors.New(count(len(report.Problems), "problem") + " found"),
			Hint: "Restore the files from a copy; everything but metadata/timestamp.json is written once and can be taken from any mirror."}
	}
	return err
}
