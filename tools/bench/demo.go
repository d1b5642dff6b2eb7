package bench

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"

	"stork/tools/testbed"
)

// demo is what the table of `make demo` shows.
type demo struct {
	*lab
	files   int
	first   map[string]time.Duration
	next    map[string][]time.Duration
	copied  time.Duration
	copySet int64
	before  *testbed.Stats
	after   *testbed.Stats
}

// The two packages of the demo, and a program of each that proves that it
// runs.
const (
	smallName = "hello"
	bigName   = "gotree"
)

var demoPrograms = map[string][]string{
	smallName: {"/opt/hello/bin/hello"},
	bigName:   {"/opt/gotree/bin/go", "version"},
}

// Demo does the main job from end to end: publish, install in three guests,
// run, and says what each step cost.
func Demo(ctx context.Context, out, log io.Writer) error {
	l, err := newLab(ctx, 3, log)
	if err != nil {
		return err
	}
	defer l.close()
	d := &demo{lab: l, first: map[string]time.Duration{}, next: map[string][]time.Duration{}}
	for _, step := range []func(context.Context) error{d.publish, d.install, d.execute, d.copy} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return d.table(ctx, out)
}

// publish makes the packages of what is on this machine.
func (d *demo) publish(ctx context.Context) error {
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("cannot find the Go tree: %w", err)
	}
	small, err := sizedPackage(d.packages(), smallName, 20)
	if err != nil {
		return err
	}
	d.say("packing %s", strings.TrimSpace(string(root)))
	big, err := treePackage(d.packages(), bigName, strings.TrimSpace(string(root)), "/opt/"+bigName, "")
	if err != nil {
		return err
	}
	d.files = big.files
	d.say("publishing %s and %s (%d files)", smallName, bigName, big.files)
	return d.tb.Publish(ctx, "alice", []string{small, big.path})
}

// install installs both packages in three guests.
func (d *demo) install(ctx context.Context) (err error) {
	if d.before, err = d.tb.Stats(ctx); err != nil {
		return err
	}
	for i, guest := range d.tb.Guests("") {
		for _, name := range []string{smallName, bigName} {
			result, _, err := d.run(ctx, guest, "stork", "install", "-y", name)
			if err != nil {
				return err
			}
			d.say("%s: stork install %s: %s", guest, name, result.Elapsed.Round(time.Millisecond))
			if i == 0 {
				d.first[name] = result.Elapsed
			} else {
				d.next[name] = append(d.next[name], result.Elapsed)
			}
		}
	}
	d.after, err = d.tb.Stats(ctx)
	return err
}

// execute runs a program of each package in each guest.
func (d *demo) execute(ctx context.Context) error {
	for _, guest := range d.tb.Guests("") {
		for _, name := range []string{smallName, bigName} {
			_, out, err := d.run(ctx, guest, demoPrograms[name]...)
			if err != nil {
				return err
			}
			d.say("%s: %s", guest, strings.TrimSpace(out))
		}
	}
	return nil
}

// copy does in one guest what installing without sharing does: write
// everything again.
func (d *demo) copy(ctx context.Context) error {
	guest := d.tb.Guests("")[0]
	script := fmt.Sprintf("cp -a /opt/%s /opt/%s /var/tmp/ && sync -f /var/tmp", smallName, bigName)
	result, _, err := d.run(ctx, guest, "sh", "-c", script)
	if err != nil {
		return err
	}
	d.copied = result.Elapsed
	stats, err := d.tb.Stats(ctx)
	if err != nil {
		return err
	}
	d.copySet = stats.Guests[guest].PrivateBytes - d.after.Guests[guest].PrivateBytes
	return nil
}

// table prints what everything cost.
func (d *demo) table(ctx context.Context, out io.Writer) error {
	shared, err := d.memory(ctx, "/opt/"+bigName+"/bin/gofmt", d.tb.Guests(""))
	if err != nil {
		return err
	}
	for _, guest := range d.tb.Guests("") {
		if _, _, err := d.run(ctx, guest, "sh", "-c", "mkdir -p /var/tmp/bin && cp /opt/"+bigName+"/bin/gofmt /var/tmp/bin/gofmt"); err != nil {
			return err
		}
	}
	private, err := d.memory(ctx, "/var/tmp/bin/gofmt", d.tb.Guests(""))
	if err != nil {
		return err
	}
	inodes := map[string]bool{}
	for _, guest := range d.tb.Guests("") {
		_, inode, err := d.run(ctx, guest, "stat", "-c", "%d:%i", "/opt/"+bigName+"/bin/go")
		if err != nil {
			return err
		}
		inodes[strings.TrimSpace(inode)] = true
	}
	guests := d.tb.Guests("")
	nest := d.tb.Nests()[0]
	extra := func(guest string) int64 {
		return d.after.Guests[guest].PrivateBytes - d.before.Guests[guest].PrivateBytes
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\n\tshared by Stork\tthe same by copying\n")
	fmt.Fprintf(w, "%s and %s (%d files) in %d guests\t\t\n", smallName, bigName, d.files, len(guests))
	fmt.Fprintf(w, "downloaded, once for the host\t%s\t%s\n", size(d.after.Nests[nest].BytesFetched), size(d.after.Nests[nest].BytesFetched*int64(len(guests))))
	fmt.Fprintf(w, "disk of the host's store\t%s\t\n", size(d.after.Nests[nest].StoreBytes))
	fmt.Fprintf(w, "disk of each further guest\t%s\t%s\n", size(max(extra(guests[1]), extra(guests[2]))), size(d.copySet))
	fmt.Fprintf(w, "first install, %s\t%s\t\n", smallName, d.first[smallName].Round(time.Millisecond))
	fmt.Fprintf(w, "first install, %s\t%s\t\n", bigName, d.first[bigName].Round(time.Millisecond))
	fmt.Fprintf(w, "next installs, %s\t%s\t\n", smallName, rounded(d.next[smallName]))
	fmt.Fprintf(w, "next installs, %s\t%s\t%s (both)\n", bigName, rounded(d.next[bigName]), d.copied.Round(time.Millisecond))
	fmt.Fprintf(w, "inodes of one file in all guests\t%d\t%d\n", len(inodes), len(guests))
	fmt.Fprintf(w, "memory of one program run in all guests\t%s\t%s\n", size(shared.pss), size(private.pss))
	return w.Flush()
}

func size(n int64) string { return humanize.Bytes(uint64(max(n, 0))) }

func rounded(list []time.Duration) string {
	texts := make([]string, len(list))
	for i, d := range list {
		texts[i] = d.Round(time.Millisecond).String()
	}
	return strings.Join(texts, ", ")
}
