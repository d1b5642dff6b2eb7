// Package cli is the command line of stork-bench. Start with [Run].
package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"stork/repo/program"
	"stork/tools/bench"
)

const description = `Measures Stork on this machine, beside the tools of today. Each benchmark prints one JSON object of figures on standard output and everything else on standard error.

Exit statuses: 0 measured, whatever the figures; 1 could not measure; 2 wrong usage.`

// grammar is the command line.
type grammar struct {
	program.Common
	Install installCommand `cmd:"" help:"The first install on a host, and those of further guests, beside rpm."`
	Set     setCommand     `cmd:"" help:"Hundreds of packages installed at once, on a host and in further guests."`
	Index   indexCommand   `cmd:"" help:"What many packages in the repository cost."`
	Tree    treeCommand    `cmd:"" help:"The first install of the Go tree of this machine, beside others."`
	Density densityCommand `cmd:"" help:"What further guests cost in disk and memory, beside guests with copies."`
	Crowd   crowdCommand   `cmd:"" help:"Many guests installing the same package at the same moment."`
	Swarm   swarmCommand   `cmd:"" help:"Many nests fetching the same package at the same moment, each over a link of its own."`
	Demo    demoCommand    `cmd:"" help:"The main job from end to end, with a table of what it cost."`
	All     allCommand     `cmd:"" help:"All benchmarks, written down."`
}

// Run runs the program and returns the exit status.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return program.Run(ctx, program.Spec{Name: "stork-bench", Description: description, Grammar: &grammar{}},
		args, program.Streams{In: stdin, Out: stdout, Err: stderr})
}

// figures is the flag that every benchmark takes; figures are always JSON.
type figures struct {
	JSON bool `name:"json" help:"Print the figures as JSON. It is the default, and the only form."`
}

func print(out program.Streams, v any) error {
	b, err := json.Marshal(v)
	if err == nil {
		_, err = fmt.Fprintf(out.Out, "%s\n", b)
	}
	return err
}

type installCommand struct {
	figures
	Files    int `default:"20" help:"Files in the package."`
	Packages int `default:"0" help:"Other packages in the repository."`
}

// Run measures.
func (c *installCommand) Run(ctx context.Context, out program.Streams) error {
	v, err := bench.InstallAlone(ctx, c.Files, c.Packages, out.Err)
	if err != nil {
		return err
	}
	return print(out, v)
}

type setCommand struct {
	figures
	Packages int `default:"0" help:"Other packages in the repository."`
}

// Run measures.
func (c *setCommand) Run(ctx context.Context, out program.Streams) error {
	v, err := bench.SetAlone(ctx, c.Packages, out.Err)
	if err != nil {
		return err
	}
	return print(out, v)
}

type indexCommand struct {
	figures
	Packages int `default:"60000" help:"Packages in the repository."`
}

// Run measures.
func (c *indexCommand) Run(ctx context.Context, out program.Streams) error {
	v, err := bench.IndexAlone(ctx, c.Packages, out.Err)
	if err != nil {
		return err
	}
	return print(out, v)
}

type treeCommand struct{ figures }

// Run measures.
func (c *treeCommand) Run(ctx context.Context, out program.Streams) error {
	v, err := bench.MeasureTree(ctx, out.Err)
	if err != nil {
		return err
	}
	return print(out, v)
}

type densityCommand struct {
	figures
	Guests int `default:"100" help:"Guests."`
}

// Run measures.
func (c *densityCommand) Run(ctx context.Context, out program.Streams) error {
	v, err := bench.MeasureDensity(ctx, c.Guests, out.Err)
	if err != nil {
		return err
	}
	return print(out, v)
}

type crowdCommand struct {
	figures
	Guests int `default:"1000" help:"Guests."`
}

// Run measures.
func (c *crowdCommand) Run(ctx context.Context, out program.Streams) error {
	v, err := bench.MeasureCrowd(ctx, c.Guests, out.Err)
	if err != nil {
		return err
	}
	return print(out, v)
}

type demoCommand struct{}

// Run shows the demo.
func (c *demoCommand) Run(ctx context.Context, out program.Streams) error {
	return bench.Demo(ctx, out.Out, out.Err)
}

type allCommand struct {
	Write    string `placeholder:"FILE" help:"Write the figures there, with the machine they came from."`
	Packages int    `default:"60000" help:"Packages in the repository."`
}

// Run measures everything in one testbed.
func (c *allCommand) Run(ctx context.Context, out program.Streams) error {
	report, err := bench.All(ctx, c.Packages, out.Err)
	if err != nil {
		return err
	}
	if c.Write != "" {
		if err := report.Write(c.Write); err != nil {
			return err
		}
	}
	return print(out, report)
}
