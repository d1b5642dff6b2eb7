package publisher

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"stork/client/cli/guest"
	"stork/client/cli/show"
	"stork/client/publish"
	"stork/repo"
	"stork/repo/program"
	"stork/signing/policy"
)

type publishCmd struct {
	As     repo.Publisher `required:"" placeholder:"NAME" help:"The publisher whose keys sign."`
	Repo   string         `placeholder:"URL" help:"The repository, if you have several."`
	Yes    bool           `short:"y" help:"Do not ask."`
	DryRun bool           `short:"n" help:"Only show what would be published."`
	JSON   bool           `name:"json" help:"Print JSON. Asks nothing, so it needs -y or --dry-run."`
	Adopt  bool           `help:"Go on from what the repository has, if this machine did not sign it: for a second machine, or a lost one."`
	Files  []string       `arg:"" optional:"" name:"file" help:"Packages; @LIST names a file with one path a line; none: sign again, so that the index does not expire."`
}

// publishResult is what --json prints.
type publishResult struct {
	DryRun   bool             `json:"dry_run"`
	From     int64            `json:"from"`    // the role's version before
	Version  int64            `json:"version"` // and after
	Snapshot int64            `json:"snapshot,omitempty"`
	Added    []publishedEntry `json:"added"`
	Skipped  int              `json:"skipped"` // published already, with this content
	Bytes    int64            `json:"bytes"`
}

type publishedEntry struct {
	Package string      `json:"package"`
	ID      repo.Digest `json:"id"`
	Size    int64       `json:"size"`
}

// Run implements the command.
func (c *publishCmd) Run(ctx context.Context, env *guest.Environment, streams program.Streams) error {
	if c.JSON && !c.Yes && !c.DryRun {
		return &program.Error{Status: program.Usage, Err: errors.New("--json asks no questions"), Hint: "Give -y to do it, or --dry-run to see it."}
	}
	d, err := openDesk()
	if err != nil {
		return err
	}
	p, err := d.publisher(c.As, c.Repo, env)
	if err != nil {
		return err
	}
	if c.Adopt {
		from, to, err := p.Adopt(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(streams.Err, "Adopted version %d of %s (this machine had %d).\n", to, c.As.PublisherRole(), from)
	}
	bar := newTransferBar(streams, c.JSON)
	defer bar.close()
	plan, err := p.Plan(ctx, c.Files, bar.progress)
	if err != nil {
		return err
	}
	defer plan.Close()
	bar.close()
	if done, err := c.agree(streams, plan); done || err != nil {
		return err
	}
	if err := p.Submit(ctx, plan, bar.progress); err != nil {
		return err
	}
	bar.close()
	if err := c.firstPolicy(ctx, d, p, streams); err != nil {
		return err
	}
	return c.report(streams, plan)
}

// publisher opens keys and repository.
func (d *desk) publisher(name repo.Publisher, which string, env *guest.Environment) (*publish.Publisher, error) {
	id, err := d.identity(name.PublisherRole())
	if err != nil {
		return nil, err
	}
	pin, err := d.repository(which)
	if err != nil {
		return nil, err
	}
	return &publish.Publisher{Dir: d.published(), Disk: d.disk, Now: env.Now, Identity: id, Repository: pin}, nil
}

// agree shows the difference to what was signed last, and asks.
func (c *publishCmd) agree(out program.Streams, plan *publish.Plan) (done bool, err error) {
	if c.JSON {
		if c.DryRun {
			err = out.JSON(resultOf(plan, true))
		}
		return c.DryRun, err
	}
	var rows [][]string
	for _, a := range plan.Added {
		rows = append(rows, []string{"  + " + a.NEVRA.String(), show.Bytes(a.BlobSize)})
	}
	_ = out.Table([]string{"  package", "size"}, rows)
	if plan.Skipped > 0 {
		fmt.Fprintf(out.Out, "%s published already.\n", show.Count(plan.Skipped, "package"))
	}
	fmt.Fprintf(out.Out, "%s: version %d to %d, %s new, %s.\n", c.As.PublisherRole(), plan.From, plan.Version, show.Count(len(plan.Added), "package"), show.Bytes(plan.Bytes))
	if c.DryRun || c.Yes {
		return c.DryRun, nil
	}
	yes, err := out.Confirm("Sign and upload?")
	if err == nil && !yes {
		err = &program.Error{Status: program.Failed, Err: errors.New("nothing was published")}
	}
	return false, err
}

// firstPolicy publishes, once, a policy with which the owner of the same
// name trusts this publisher: whoever has no other owner needs no further
// command, and the rule stands where it can be read and changed.
func (c *publishCmd) firstPolicy(ctx context.Context, d *desk, p *publish.Publisher, streams program.Streams) error {
	owner, err := d.identity(c.As.OwnerRole())
	if err != nil {
		return nil //nolint:nilerr // a publisher who is no owner has no policy
	}
	_, err = p.Policy(ctx, owner.Role())
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	rules := &policy.Policy{Format: policy.Format, Repository: p.Repository.Root, Role: owner.Role(), Rules: []policy.Rule{{
		Action: policy.Allow, Packages: "*", Publisher: c.As, Key: p.Identity.Pin().Digest,
	}}}
	text, err := rules.Encode()
	if err != nil {
		return err
	}
	if err := p.PublishPolicy(ctx, owner, text); err != nil {
		return fmt.Errorf("cannot publish the first trust policy of %s: %w", c.As, err)
	}
	fmt.Fprintf(streams.Err, "Owner %s has no trust policy here yet: published one that allows everything from publisher %s (see `stork trust list --as %s`).\n", c.As, c.As, c.As)
	return nil
}

func resultOf(plan *publish.Plan, dryRun bool) publishResult {
	r := publishResult{
		DryRun: dryRun, From: plan.From, Version: plan.Version, Snapshot: plan.Result.Snapshot,
		Added: []publishedEntry{}, Skipped: plan.Skipped, Bytes: plan.Bytes,
	}
	for _, a := range plan.Added {
		r.Added = append(r.Added, publishedEntry{a.NEVRA.String(), a.ID, a.BlobSize})
	}
	return r
}

func (c *publishCmd) report(out program.Streams, plan *publish.Plan) error {
	if c.JSON {
		return out.JSON(resultOf(plan, false))
	}
	fmt.Fprintf(out.Out, "Published %s as version %d of %s.\n", show.Count(len(plan.Added), "package"), plan.Version, c.As.PublisherRole())
	return nil
}

// transferBar shows how far reading and uploading are, on a terminal.
type transferBar struct {
	on    bool
	bars  *show.Bars
	bar   *show.Bar
	phase publish.Phase
}

func newTransferBar(out program.Streams, quiet bool) *transferBar {
	return &transferBar{on: !quiet && show.IsTerminal(out.Err), bars: show.NewBars(out.Err)}
}

func (b *transferBar) progress(p publish.Progress) {
	if !b.on || p.Total <= 0 {
		return
	}
	if b.bar == nil || b.phase != p.Phase {
		b.close()
		unit := show.InBytes
		if p.Phase == publish.Reading {
			unit = show.InPackages
		}
		b.bar, b.phase = b.bars.Add(string(p.Phase), p.Total, unit), p.Phase
	}
	b.bar.Set(p.Done)
}

func (b *transferBar) close() {
	if b.bar == nil {
		return
	}
	b.bar.Drop()
	b.bars.Close()
	b.bar = nil
}
