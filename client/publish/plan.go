package publish

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"stork/nestd/api"
	"stork/repo"
	upload "stork/repo/api"
	"stork/repo/index"
	"stork/signing"
)

// Plan is what one publish would change. It holds the publisher's lock:
// [Plan.Close] it in any case.
type Plan struct {
	From    int64   // the role's version now; 0: it has published nothing
	Version int64   // the role's version then
	Added   []Added // by name and version
	Skipped int     // packages that are published already, as they are
	Bytes   int64   // of the added packages
	Result  upload.UploadResult

	local    *local
	spool    *spool
	packages []*readPackage
	tree     *index.Tree // the new index
	docs     index.Documents
}

// Close releases the lock and what was kept for the plan.
func (plan *Plan) Close() {
	if plan.spool != nil {
		plan.spool.close()
	}
	plan.local.close()
}

// Plan reads packages and works out the next version of the publisher's
// index. It changes nothing, but for one thing: an earlier publish that was
// signed and did not get through is finished first. Without files the plan
// signs what there is again, so that it stays valid.
//
// A package whose name, version and architecture are published is skipped if
// its content is the same, and refused otherwise. Errors that a person can do
// something about are [*api.Error] with a hint.
func (p *Publisher) Plan(ctx context.Context, files []string, progress func(Progress)) (*Plan, error) {
	paths, err := Expand(files)
	if err != nil {
		return nil, err
	}
	l, err := p.openLocal(p.Identity.Role())
	if err != nil {
		return nil, err
	}
	plan := &Plan{local: l}
	if err := p.prepare(ctx, plan, paths, progress); err != nil {
		plan.Close()
		return nil, err
	}
	return plan, nil
}

func (p *Publisher) prepare(ctx context.Context, plan *Plan, paths []string, progress func(Progress)) (err error) {
	l := plan.local
	if plan.spool, err = newSpool(l.dir); err != nil {
		return err
	}
	if err := p.settle(ctx, l, plan.spool, progress); err != nil {
		return err
	}
	plan.From, plan.Version = l.version(), l.version()+1
	if plan.packages, err = readPackages(ctx, plan.spool, paths, progress); err != nil {
		return err
	}
	return p.extend(ctx, plan)
}

func (p *Publisher) openLocal(role repo.Role) (*local, error) {
	return openLocal(p.Disk, filepath.Join(p.Dir, p.Repository.Root.Hex(), string(role)), role)
}

// openTree opens the last-signed index. A first one is empty, and all of its
// documents are new.
func (p *Publisher) openTree(ctx context.Context, l *local) (*index.Tree, index.Documents, error) {
	publisher := l.role.Publisher()
	if l.signed == nil {
		return index.New(publisher, p.Repository.Root)
	}
	object, ok := l.signed.Targets[signing.IndexTarget(publisher)]
	if !ok {
		return index.New(publisher, p.Repository.Root)
	}
	tree, err := index.Open(ctx, l.docs, object)
	if err != nil {
		return nil, nil, err
	}
	if tree.Root.Publisher != publisher || tree.Root.Repository != p.Repository.Root {
		return nil, nil, fmt.Errorf("cannot read what was signed last: it is %s's index for repository %s",
			tree.Root.Publisher, tree.Root.Repository)
	}
	return tree, nil, nil
}

// extend decides which packages are new and builds the index with them.
func (p *Publisher) extend(ctx context.Context, plan *Plan) error {
	tree, first, err := p.openTree(ctx, plan.local)
	if err != nil {
		return err
	}
	if err := plan.keepNew(ctx, tree); err != nil {
		return err
	}
	entries := make([]index.Entry, len(plan.packages))
	for i, read := range plan.packages {
		entries[i] = read.entry
		plan.Bytes += read.blob.Size
		plan.Added = append(plan.Added, Added{read.entry.NEVRA(), read.entry.Record.Digest, read.blob.Size, read.path})
	}
	plan.tree = tree
	if len(entries) > 0 {
		if plan.tree, plan.docs, err = tree.Extend(ctx, entries); err != nil {
			return err
		}
	}
	// Of the documents of an empty index some may have been replaced.
	if plan.docs == nil {
		plan.docs = index.Documents{}
	}
	for _, o := range treeDocuments(plan.tree) {
		if b, ok := first[o.Digest]; ok {
			plan.docs[o.Digest] = b
		}
	}
	return nil
}

// keepNew sorts packages and drops those that are published or came twice,
// and refuses those that are published with other content.
func (plan *Plan) keepNew(ctx context.Context, tree *index.Tree) error {
	slices.SortStableFunc(plan.packages, func(a, b *readPackage) int {
		x, y := a.entry.NEVRA(), b.entry.NEVRA()
		if c := strings.Compare(string(x.Name), string(y.Name)); c != 0 {
			return c
		}
		if c := x.EVR.Compare(y.EVR); c != 0 {
			return c
		}
		return strings.Compare(x.String(), y.String())
	})
	known, err := published(ctx, tree, plan.packages)
	if err != nil {
		return err
	}
	var refused []string
	var kept []*readPackage
	for _, read := range plan.packages {
		nevra := read.entry.NEVRA()
		id, ok := known[nevra]
		switch {
		case !ok:
			known[nevra] = read.entry.Record.Digest
			kept = append(kept, read)
		case id == read.entry.Record.Digest:
			plan.Skipped++
		default:
			refused = append(refused, fmt.Sprintf("%s (%s)", nevra, read.path))
		}
	}
	plan.packages = kept
	if len(refused) > 0 {
		return &api.Error{Code: api.Conflict,
			Message: "cannot publish other content under a version that is taken: " + some(refused),
			Hint:    "What is published never changes: raise the release and build again."}
	}
	return nil
}

// published returns the package IDs of what the index has under the names of
// packages, which are sorted by name. Each shard is read once.
func published(ctx context.Context, tree *index.Tree, packages []*readPackage) (map[repo.NEVRA]repo.Digest, error) {
	wanted := map[int]map[repo.Name]bool{}
	for _, read := range packages {
		n := index.ShardOf(read.entry.Name, tree.Root.Bits)
		if wanted[n] == nil {
			wanted[n] = map[repo.Name]bool{}
		}
		wanted[n][read.entry.Name] = true
	}
	known := map[repo.NEVRA]repo.Digest{}
	for n, names := range wanted {
		shard, err := tree.Shard(ctx, n)
		if err != nil {
			return nil, err
		}
		for i := range shard.Packages {
			if e := &shard.Packages[i]; names[e.Name] {
				known[e.NEVRA()] = e.Record.Digest
			}
		}
	}
	return known, nil
}

// some joins the first of a list.
func some(list []string) string {
	const most = 10
	if len(list) <= most {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
}
