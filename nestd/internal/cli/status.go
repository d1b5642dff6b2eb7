package cli

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/dustin/go-humanize"

	"stork/nestd/api"
	"stork/repo/program"
)

type statusCommand struct {
	JSON bool `name:"json" help:"Print JSON."`
}

// Run shows the state of the nest.
func (c *statusCommand) Run(ctx context.Context, streams program.Streams, home *home) error {
	operator, err := home.operator()
	if err != nil {
		return err
	}
	defer operator.Close()
	status, err := operator.Status(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		return streams.JSON(status)
	}
	started := time.Unix(status.Started, 0)
	fmt.Fprintf(streams.Out, "nestd %s, process %d, since %s\n", status.Version, status.PID, started.Format(time.DateTime))
	fmt.Fprintf(streams.Out, "key      %s\nguests   %d\nfetched  %s\n\n", status.Identity, status.Guests, humanize.IBytes(uint64(max(status.BytesFetched, 0))))
	return printRepositories(streams, status.Repositories)
}

// printRepositories prints how fresh repositories are.
func printRepositories(streams program.Streams, list []api.RepositoryStatus) error {
	var rows [][]string
	for _, r := range list {
		state := "fresh"
		if r.Error != "" {
			state = r.Error
		}
		rows = append(rows, []string{r.URL, strconv.FormatInt(r.Version, 10), when(r.Checked), when(r.Expires), state})
	}
	return streams.Table([]string{"REPOSITORY", "VERSION", "CHECKED", "EXPIRES", "STATE"}, rows)
}

func when(seconds int64) string {
	if seconds == 0 {
		return "never"
	}
	return humanize.Time(time.Unix(seconds, 0))
}
