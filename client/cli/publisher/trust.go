package publisher

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"stork/client/cli/guest"
	"stork/client/publish"
	"stork/repo"
	"stork/repo/program"
	"stork/signing/author"
	"stork/signing/policy"
)

type trustCmd struct {
	Allow   trustAllowCmd      `cmd:"" help:"Add a rule that allows packages of a publisher."`
	Deny    trustDenyCmd       `cmd:"" help:"Add a rule that denies packages."`
	Drop    trustDropCmd       `cmd:"" help:"Drop a rule by its number."`
	List    trustListCmd       `cmd:"" help:"List the rules, in the order in which they are tried."`
	Explain guest.TrustExplain `cmd:"" help:"In a guest: say which rule admits or refuses a package."`
}

// ownerFlags say whose policy, and where.
type ownerFlags struct {
	As   repo.Publisher `required:"" placeholder:"OWNER" help:"The owner whose keys sign."`
	Repo string         `placeholder:"URL" help:"The repository, if you have several."`
}

// ownersDesk is an open policy.
type ownersDesk struct {
	publisher *publish.Publisher
	owner     *author.Identity
	rules     *policy.Policy
}

// open reads the policy that was signed last; a new one has no rules.
func (f ownerFlags) open(ctx context.Context, env *guest.Environment) (*ownersDesk, error) {
	d, err := openDesk()
	if err != nil {
		return nil, err
	}
	owner, err := d.identity(f.As.OwnerRole())
	if err != nil {
		return nil, err
	}
	pin, err := d.repository(f.Repo)
	if err != nil {
		return nil, err
	}
	o := &ownersDesk{owner: owner, publisher: &publish.Publisher{Dir: d.published(), Disk: d.disk, Now: env.Now, Identity: owner, Repository: pin}}
	o.rules, err = o.publisher.Policy(ctx, owner.Role())
	if errors.Is(err, fs.ErrNotExist) {
		o.rules, err = &policy.Policy{Format: policy.Format, Repository: pin.Root, Role: owner.Role(), Rules: []policy.Rule{}}, nil
	}
	return o, err
}

// publish signs the changed policy and shows it.
func (o *ownersDesk) publish(ctx context.Context, streams program.Streams) error {
	text, err := o.rules.Encode()
	if err != nil {
		return &program.Error{Status: program.Usage, Err: err}
	}
	if err := o.publisher.PublishPolicy(ctx, o.owner, text); err != nil {
		return err
	}
	return o.list(streams, false)
}

func (o *ownersDesk) list(streams program.Streams, asJSON bool) error {
	if asJSON {
		return streams.JSON(o.rules)
	}
	for i := range o.rules.Rules {
		r := &o.rules.Rules[i]
		fmt.Fprintf(streams.Out, "%3d  %-5s  %s\n", i+1, r.Action, r.String())
	}
	fmt.Fprintln(streams.Out, "     else refuse")
	return nil
}

// ruleFlags describe a rule.
type ruleFlags struct {
	Key      repo.Digest      `placeholder:"sha256:…" help:"The publisher's pin, as its 'stork key show' prints it."`
	Packages string           `default:"*" help:"Package names with * ? [..]."`
	Versions []policy.Version `name:"versions" placeholder:"'>= 1.2'" help:"Only these versions; may be given twice for a range."`
	ID       []repo.Digest    `placeholder:"sha256:…" help:"Only exactly these packages."`
	First    bool             `help:"Put the rule before all others, not behind them."`
}

func (f ruleFlags) add(o *ownersDesk, action policy.Action, publisher repo.Publisher) {
	rule := policy.Rule{Action: action, Publisher: publisher, Key: f.Key, Packages: f.Packages, Versions: f.Versions, IDs: f.ID}
	at := len(o.rules.Rules)
	if f.First {
		at = 0
	}
	o.rules.Rules = slices.Insert(o.rules.Rules, at, rule)
}

type trustAllowCmd struct {
	ownerFlags
	ruleFlags
	Publisher repo.Publisher `arg:"" help:"Who publishes them."`
}

// Run implements the command.
func (c *trustAllowCmd) Run(ctx context.Context, env *guest.Environment, streams program.Streams) error {
	o, err := c.open(ctx, env)
	if err != nil {
		return err
	}
	if c.Key.IsZero() {
		return &program.Error{Status: program.Usage, Err: errors.New("a rule that allows names the publisher's key"), Hint: "Give --key sha256:…, which the publisher's `stork key show` prints. A name alone proves nothing."}
	}
	c.add(o, policy.Allow, c.Publisher)
	return o.publish(ctx, streams)
}

type trustDenyCmd struct {
	ownerFlags
	ruleFlags
	Publisher repo.Publisher `arg:"" optional:"" help:"Who publishes them; none: anybody."`
}

// Run implements the command. A denial goes first unless rules before it are
// to except something from it.
func (c *trustDenyCmd) Run(ctx context.Context, env *guest.Environment, streams program.Streams) error {
	o, err := c.open(ctx, env)
	if err != nil {
		return err
	}
	c.add(o, policy.Deny, c.Publisher)
	return o.publish(ctx, streams)
}

type trustDropCmd struct {
	ownerFlags
	Rule int `arg:"" help:"Its number in the list, from 1."`
}

// Run implements the command.
func (c *trustDropCmd) Run(ctx context.Context, env *guest.Environment, streams program.Streams) error {
	o, err := c.open(ctx, env)
	if err != nil {
		return err
	}
	if c.Rule < 1 || c.Rule > len(o.rules.Rules) {
		return &program.Error{Status: program.Usage, Err: fmt.Errorf("there is no rule %d", c.Rule), Hint: "`stork trust list` numbers them."}
	}
	o.rules.Rules = slices.Delete(o.rules.Rules, c.Rule-1, c.Rule)
	return o.publish(ctx, streams)
}

type trustListCmd struct {
	ownerFlags
	JSON bool `name:"json" help:"Print the policy document."`
}

// Run implements the command.
func (c *trustListCmd) Run(ctx context.Context, env *guest.Environment, streams program.Streams) error {
	o, err := c.open(ctx, env)
	if err != nil {
		return err
	}
	return o.list(streams, c.JSON)
}
