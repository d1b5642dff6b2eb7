package change

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"stork/client/catalog"
	"stork/client/share"
	"stork/client/solve"
	"stork/client/transaction"
	"stork/nestd/api"
	"stork/repo"
)

// TestMountsOf counts as placing would.
func TestMountsOf(t *testing.T) {
	t.Parallel()
	there := []string{"/usr", "/usr/bin", "/opt", "/etc"}
	tests := []struct {
		name  string
		files []repo.File
		want  int
	}{
		{"one directory", regular("/opt/a/f", "/opt/a/g", "/opt/a/sub/h"), 1},
		{"a directory that is there", regular("/usr/bin/f", "/usr/bin/g"), 2},
		{"both", regular("/usr/bin/f", "/opt/a/f", "/opt/b/f"), 3},
		{"with a private file in it", append(regular("/opt/a/f", "/opt/a/sub/g"), repo.File{Path: "/opt/a/conf", Type: repo.Regular, Flags: []repo.FileFlag{repo.Config}}), 2},
		{"nothing to share", regular("/var/lib/f", "/home/f"), 0},
		{"symlinks", []repo.File{{Path: "/usr/bin/l", Type: repo.Symlink, Link: "f"}}, 0},
	}
	for _, tt := range tests {
		got := mountsOf(&repo.FileList{Files: tt.files}, func(dir string) bool { return slices.Contains(there, dir) })
		if got != tt.want {
			t.Errorf("%s: %d mounts, want %d", tt.name, got, tt.want)
		}
	}
}

func regular(paths ...string) []repo.File {
	var list []repo.File
	for _, p := range paths {
		list = append(list, repo.File{Path: p, Type: repo.Regular, Mode: 0o644})
	}
	return list
}

// fakeGuest is a guest that says what it is told to, and notes what it is to
// do.
type fakeGuest struct {
	state transaction.State
	means share.Means
	over  int // mounts that the first change without conversion would need
	did   []string
}

func (f *fakeGuest) State() *transaction.State { return &f.state }

func (f *fakeGuest) Means() (share.Means, error) {
	f.did = append(f.did, "probe")
	return f.means, nil
}

func (f *fakeGuest) MayMount() bool { return true }

func (f *fakeGuest) Run(_ context.Context, c transaction.Change) (*transaction.Outcome, error) {
	what := fmt.Sprintf("%s %d", c.Method, len(c.Install))
	if c.Convert {
		what = "convert to " + what
	}
	f.did = append(f.did, what)
	if c.Budget > 0 && f.over > c.Budget {
		return nil, &transaction.BudgetError{Mounts: f.over, Budget: c.Budget}
	}
	return &transaction.Outcome{Installed: make([]repo.NEVRA, len(c.Install))}, nil
}

// fakeNest has everything ready.
type fakeNest struct{}

func (fakeNest) Prepare(_ context.Context, request api.PrepareRequest, _ func(api.Event)) ([]api.Prepared, error) {
	var list []api.Prepared
	for _, ref := range request.Packages {
		list = append(list, api.Prepared{ID: ref.ID})
	}
	return list, nil
}

// TestChoose: bind as long as its mounts are not too many, then overlays, and
// no way back by itself; what the owner says goes first.
func TestChoose(t *testing.T) {
	t.Parallel()
	able := share.Means{Shared: true, Mount: true, Overlay: true}
	overlay, bind := share.Overlay, share.Bind
	tests := []struct {
		name      string
		installed share.Method
		packages  int // installed, with one mount each
		chosen    share.Method
		asked     *share.Method
		come      int // packages
		files     int // of each
		over      int
		means     share.Means
		want      []string
	}{
		{"few files", "", 0, "", nil, 1, 500, 0, able, []string{"bind 1"}},
		{"many files, few mounts", share.Bind, 3, "", nil, 1, 10000, 4, able, []string{"bind 1"}},
		{"many mounts", "", 0, "", nil, 1, 10000, 600, able, []string{"bind 1", "probe", "overlay 1"}},
		{"many mounts beside others", share.Bind, 3, "", nil, 1, 10000, 600, able, []string{"bind 1", "probe", "convert to overlay 3", "overlay 1"}},
		{"many mounts, no overlays", share.Bind, 3, "", nil, 1, 10000, 600, share.Means{Shared: true, Mount: true}, []string{"bind 1", "probe", "bind 1"}},
		{"many packages", share.Bind, 3, "", nil, 300, 10, 0, able, []string{"probe", "convert to overlay 3", "overlay 300"}},
		{"overlays stay", share.Overlay, 3, "", nil, 1, 5, 0, able, []string{"overlay 1"}},
		{"symlinks stay", share.Symlink, 3, "", nil, 1, 5, 0, able, []string{"symlink 1"}},
		{"what the owner chose", "", 0, share.Overlay, nil, 1, 5, 0, able, []string{"probe", "overlay 1"}},
		{"what the owner asks for", share.Bind, 3, "", &overlay, 1, 5, 0, able, []string{"probe", "convert to overlay 3", "overlay 1"}},
		{"bind without end", share.Bind, 3, share.Bind, nil, 1, 10000, 600, able, []string{"bind 1"}},
		{"back to bind", share.Overlay, 3, share.Overlay, &bind, 1, 5, 0, able, []string{"convert to bind 3", "bind 1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := &fakeGuest{means: tt.means, over: tt.over}
			f.state.Method = tt.chosen
			for i := range tt.packages {
				id := repo.DigestOf(fmt.Append(nil, "installed", i))
				f.state.Packages = append(f.state.Packages, transaction.Installed{Ref: api.PackageRef{ID: id},
					Placed: share.Placed{ID: id, Method: tt.installed, Mounts: []share.Mount{{Target: "/x"}}}})
			}
			g := &Guest{Transaction: f, Nest: fakeNest{}, Choice: tt.asked}
			p := &Plan{records: map[repo.Digest]*repo.Record{}}
			c := transaction.Change{}
			for i := range tt.come {
				id := repo.DigestOf(fmt.Append(nil, "new", i))
				p.Packages = append(p.Packages, Item{Action: solve.Install, ID: id})
				p.steps = append(p.steps, solve.Step{Action: solve.Install, Package: &solve.Package{Key: &catalog.Candidate{}}})
				p.records[id] = &repo.Record{FileList: repo.FileListObject{Count: tt.files}}
				c.Install = append(c.Install, transaction.Package{})
			}
			err := g.choose(t.Context(), p)
			if err == nil {
				_, err = g.run(t.Context(), p, c)
			}
			if err != nil || !slices.Equal(f.did, tt.want) {
				t.Errorf("did %q, %v, want %q", f.did, err, tt.want)
			}
		})
	}
}

// TestUnable: a method that the guest can not use is refused before anything
// is changed.
func TestUnable(t *testing.T) {
	t.Parallel()
	f := &fakeGuest{means: share.Means{Shared: true, Mount: true, Why: "its root is odd"}}
	g := &Guest{Transaction: f, Nest: fakeNest{}}
	_, err := g.PlanMethod(share.Overlay)
	var able *AbleError
	if !errors.As(err, &able) || able.Method != share.Overlay || able.Why != "its root is odd" {
		t.Errorf("got %v", err)
	}
}
