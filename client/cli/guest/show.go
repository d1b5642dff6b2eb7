package guest

import (
	"fmt"
	"strings"
	"time"

	"stork/client/change"
	"stork/client/cli/show"
	"stork/client/solve"
	"stork/repo/program"
)

// headings are the parts of a plan, in the order in which they are shown.
var headings = []struct {
	title string
	fits  func(*change.Item) bool
}{
	{"Install", func(i *change.Item) bool { return i.Action == solve.Install && i.Reason == solve.User }},
	{"Install because others need it", func(i *change.Item) bool { return i.Action == solve.Install && i.Reason == solve.Dependency }},
	{"Install because others recommend it", func(i *change.Item) bool { return i.Action == solve.Install && i.Reason == solve.Weak }},
	{"Upgrade", func(i *change.Item) bool { return i.Action == solve.Upgrade && !i.Older }},
	{"Downgrade", func(i *change.Item) bool { return i.Action == solve.Upgrade && i.Older }},
	{"Install again", func(i *change.Item) bool { return i.Action == solve.Reinstall }},
	{"Remove", func(i *change.Item) bool { return i.Action == solve.Remove }},
}

// showPlan prints what would be done, from whom, and what it costs.
func showPlan(out program.Streams, p *change.Plan) {
	for _, spec := range p.Satisfied {
		fmt.Fprintf(out.Out, "%s is there already.\n", spec)
	}
	for _, name := range p.Asked {
		fmt.Fprintf(out.Out, "%s counts as asked for from now on.\n", name)
	}
	if p.Idle() {
		fmt.Fprintln(out.Out, "Nothing to do.")
	}
	showPackages(out, p)
	if p.Why != "" {
		fmt.Fprintf(out.Out, "Note: %s.\n", p.Why)
	}
	if p.Converted > 0 {
		fmt.Fprintf(out.Out, "Before all else, what is installed (%s) is converted to %s; the guest's own files stay.\n", show.Count(p.Converted, "package"), p.Method)
	}
}

func showPackages(out program.Streams, p *change.Plan) {
	for _, h := range headings {
		var rows [][]string
		for i := range p.Packages {
			if item := &p.Packages[i]; h.fits(item) {
				rows = append(rows, planRow(item))
			}
		}
		if len(rows) > 0 {
			fmt.Fprintln(out.Out, h.title+":")
			_ = out.Table([]string{"  package", "version", "arch", "publisher", "files", "download", ""}, rows)
		}
	}
	if n := p.Incoming(); n > 0 {
		fmt.Fprintf(out.Out, "\n%s, %s of files; to download: %s.\n", show.Count(n, "package"), show.Bytes(p.Size), show.Bytes(p.Download))
	}
}

func planRow(i *change.Item) []string {
	download, note := "on this host", ""
	switch {
	case i.Action == solve.Remove:
		download = ""
	case !i.OnHost:
		download = show.Bytes(i.Download)
	}
	switch {
	case len(i.Replaces) > 0:
		note = "replaces " + strings.Join(i.Replaces, ", ")
	case i.For != "":
		note = "for " + i.For
	}
	size := ""
	if i.Action != solve.Remove {
		size = show.Bytes(i.Size)
	}
	return []string{"  " + string(i.Name), i.Version, string(i.Arch), string(i.Publisher), size, download, note}
}

// showOutcome prints what was done and what was shared.
func showOutcome(out program.Streams, o *change.Outcome, took time.Duration) {
	for _, w := range o.Warnings {
		fmt.Fprintln(out.Err, "Warning:", program.Line(w))
	}
	var did []string
	if n := len(o.Installed); n > 0 {
		did = append(did, "installed "+show.Count(n, "package"))
	}
	if n := len(o.Removed); n > 0 {
		did = append(did, "removed "+show.Count(n, "package"))
	}
	if len(did) == 0 {
		return
	}
	text := strings.Join(did, ", ")
	fmt.Fprintf(out.Out, "%s%s in %s.\n", strings.ToUpper(text[:1]), text[1:], took.Round(time.Millisecond))
	if len(o.Installed) > 0 && o.Plan.Incoming() > 0 {
		fmt.Fprintf(out.Out, "Downloaded %s; wrote %s to this host's store; shared with it: %s.\n", show.Bytes(o.Fetched), show.Bytes(o.Stored), show.Bytes(o.Shared))
	}
}

func packageNames(list []*solve.Package) string {
	names := make([]string, len(list))
	for i, p := range list {
		names[i] = string(p.Name)
	}
	return strings.Join(names, ", ")
}
