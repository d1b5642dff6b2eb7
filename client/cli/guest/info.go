package guest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"stork/client/catalog"
	"stork/client/cli/show"
	"stork/client/solve"
	"stork/client/transaction"
	"stork/nestd/api"
	"stork/repo"
	"stork/repo/index"
	"stork/repo/program"
)

type infoCmd struct {
	JSON     bool     `name:"json" help:"Print the package records."`
	Packages []string `arg:"" name:"package" help:"Packages; without a version, the one that would be installed."`
}

// described is one package with its verified record.
type described struct {
	ID        repo.Digest    `json:"id"`
	Publisher repo.Publisher `json:"publisher"`
	Installed bool           `json:"installed"`
	Rule      string         `json:"rule,omitempty"`   // of the policy that admits it
	Record    *repo.Record   `json:"record,omitempty"` // verified now
	Entry     *index.Entry   `json:"entry,omitempty"`  // as verified when it was installed, where the record can not be had
}

// Run implements the command.
func (c *infoCmd) Run(ctx context.Context, g *Place, env *Environment, streams program.Streams) error {
	s := newSession(g, env, streams)
	defer s.close()
	state, err := s.state(ctx)
	if err != nil {
		return err
	}
	books, failed := s.catalog(ctx)
	list := []described{}
	for _, text := range c.Packages {
		var d described
		if failed == nil {
			d, err = describe(ctx, books, state, text)
		} else {
			d, err = remembered(state, text, failed)
		}
		if err != nil {
			return err
		}
		list = append(list, d)
	}
	if failed != nil {
		s.fallback(failed)
	}
	if c.JSON {
		return streams.JSON(list)
	}
	for i := range list {
		printInfo(streams, &list[i])
	}
	return nil
}

// remembered describes an installed package from the guest's own state. Of
// any other only why it can not be described is known.
func remembered(state *transaction.State, text string, why error) (described, error) {
	have, err := installed(state, text)
	if have == nil || err != nil {
		return described{}, errors.Join(err, why)
	}
	return described{ID: have.Ref.ID, Publisher: have.Ref.Publisher, Installed: true, Entry: &have.Entry}, nil
}

// installed finds the installed package that a spec means, nil if there is
// none.
func installed(state *transaction.State, text string) (*transaction.Installed, error) {
	spec, err := solve.ParseSpec(text)
	if err != nil {
		return nil, &program.Error{Status: program.Usage, Err: err}
	}
	for i := range state.Packages {
		if p := &state.Packages[i]; spec.Matches(catalog.Package(&p.Entry, p.Ref)) {
			return p, nil
		}
	}
	return nil, nil
}

// fallback says why the answer is what the guest itself knows.
func (s *session) fallback(why error) {
	fmt.Fprintf(s.streams.Err, "stork: %s\nShowing what this guest knows of what is installed.\n", program.Text(why.Error()))
}

func describe(ctx context.Context, books *catalog.Catalog, state *transaction.State, text string) (described, error) {
	a, err := pick(ctx, books, text)
	if err != nil {
		return described{}, err
	}
	records, err := books.Verify(ctx, a)
	if err != nil {
		return described{}, err
	}
	return described{ID: a.Ref.ID, Publisher: a.Ref.Publisher, Installed: state.Find(a.Ref.ID) != nil, Rule: a.Decision.Reason, Record: records[0]}, nil
}

// pick returns the candidate that a spec would install: the best publisher's
// newest.
func pick(ctx context.Context, books *catalog.Catalog, text string) (*catalog.Candidate, error) {
	spec, err := solve.ParseSpec(text)
	if err != nil {
		return nil, &program.Error{Status: program.Usage, Err: err}
	}
	found, err := books.Find(ctx, []api.Query{specQuery(spec)})
	if err != nil {
		return nil, err
	}
	for _, a := range found {
		if spec.Matches(a.Package()) && (a.Entry.Arch == repo.HostArch() || a.Entry.Arch == repo.NoArch) {
			return a, nil
		}
	}
	refused, err := books.Refusals(ctx, text)
	if err != nil {
		return nil, err
	}
	if len(refused) > 0 {
		r := refused[0]
		return nil, &program.Error{Status: exitUntrusted, Err: fmt.Errorf("%s from %s is not admitted: %s", r.NEVRA(), r.Ref.Publisher, r.Reason)}
	}
	return nil, &program.Error{Status: ExitNotFound, Err: fmt.Errorf("no package %q", text), Hint: "`stork search WORD` looks for packages by name and summary."}
}

func specQuery(spec solve.Spec) api.Query {
	switch spec.Kind {
	case solve.NameSpec:
		return api.Query{Kind: api.ByName, Terms: []string{string(spec.Name)}}
	case solve.GlobSpec:
		return api.Query{Kind: api.ByGlob, Terms: []string{spec.Pattern}}
	}
	return api.Query{Kind: api.ByCapability, Terms: []string{spec.Capability.Name}}
}

func printInfo(out program.Streams, d *described) {
	lines := recordLines(d)
	if d.Installed {
		lines = append(lines, [2]string{"Installed", "yes"})
	}
	for _, l := range lines {
		if l[1] != "" {
			fmt.Fprintf(out.Out, "%-13s %s\n", l[0]+":", program.Line(l[1]))
		}
	}
	if d.Record != nil && d.Record.Description != "" {
		fmt.Fprintf(out.Out, "\n%s\n\n", program.Text(d.Record.Description))
	}
}

// recordLines are the facts of a record, or of the entry that is left of it.
func recordLines(d *described) [][2]string {
	if e := d.Entry; e != nil {
		return [][2]string{
			{"Name", string(e.Name)}, {"Version", e.EVR().String()}, {"Architecture", string(e.Arch)},
			{"Publisher", string(d.Publisher)}, {"Package ID", d.ID.String()}, {"Summary", e.Summary}, {"Files", show.Bytes(e.InstalledSize)},
		}
	}
	r := d.Record
	lines := [][2]string{
		{"Name", string(r.Name)}, {"Version", r.EVR().String()}, {"Architecture", string(r.Arch)},
		{"Publisher", string(d.Publisher)}, {"Package ID", d.ID.String()}, {"Summary", r.Summary},
		{"Licence", r.License}, {"URL", r.URL}, {"Vendor", r.Vendor}, {"Source", r.Source},
		{"Blob", fmt.Sprintf("%s, %s", show.Bytes(r.Blob.Size), r.Blob.Digest)},
		{"Files", fmt.Sprintf("%d, %s", r.FileList.Count, show.Bytes(r.InstalledSize))},
		{"Scriptlets", scriptletNames(r)}, {"Trust", d.Rule},
	}
	if r.BuildTime > 0 {
		lines = append(lines, [2]string{"Built", time.Unix(r.BuildTime, 0).UTC().Format(time.RFC3339)})
	}
	return lines
}

func scriptletNames(r *repo.Record) string {
	var names []string
	for _, s := range r.Scriptlets {
		names = append(names, "%"+string(s.Phase))
	}
	return strings.Join(names, " ")
}
