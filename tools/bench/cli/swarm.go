package cli

import (
	"context"
	"fmt"
	"math"

	"github.com/dustin/go-humanize"

	"stork/repo/program"
	"stork/tools/bench"
)

type swarmCommand struct {
	figures
	Nests    int    `default:"20" help:"Nests."`
	Size     string `default:"25MB" help:"Size of the package."`
	Rate     string `default:"25mbit" help:"Rate of the repository's and each nest's link, each direction."`
	Transfer string `placeholder:"JSON" help:"The nests' transfer setting, as in nest.json, with {address} for the nest's own; default: one with the swarm; {} measures HTTP alone."`
}

// Run measures.
func (c *swarmCommand) Run(ctx context.Context, out program.Streams) error {
	size, err := humanize.ParseBytes(c.Size)
	if err != nil || size == 0 || size > math.MaxInt32 {
		return &program.Error{Status: program.Usage, Err: fmt.Errorf("cannot make a package of the size %q: want 1B to 2GB, as 25MB", c.Size)}
	}
	v, err := bench.MeasureSwarm(ctx, bench.SwarmOptions{Nests: c.Nests, Size: int64(size), Rate: c.Rate, Transfer: c.Transfer}, out.Err)
	if err != nil {
		return err
	}
	return print(out, v)
}
