package publish_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"stork/client/publish"
	"stork/fixtures"
	"stork/nestd/api"
	"stork/repo"
	"stork/repo/durable"
	"stork/repo/index"
	"stork/repo/rpmfile"
	"stork/signing"
	"stork/signing/policy"
)

// rpm writes a package and returns its path.
func (w *world) rpm(spec fixtures.Spec) string {
	w.t.Helper()
	path := w.path(fmt.Sprintf("%s-%s-%s.rpm", spec.Name, spec.Version, spec.Summary))
	w.must(os.WriteFile(path, fixtures.MustRPM(w.t, spec), 0o600))
	return path
}

func (w *world) publish(p *publish.Publisher, files ...string) (*publish.Plan, error) {
	plan, err := p.Plan(context.Background(), files, nil)
	if err != nil {
		return nil, err
	}
	defer plan.Close()
	return plan, p.Submit(context.Background(), plan, nil)
}

// index opens what a reader of the repository sees, verified from the
// publisher's pin.
func (w *world) index() (int64, *index.Tree) {
	w.t.Helper()
	client, err := signing.Open(signing.Options{Dir: w.t.TempDir(), Root: w.repository.Root()})
	w.must(err)
	snapshot, err := client.Refresh(context.Background(), signing.Dir(w.path("tree")))
	w.must(err)
	role, err := snapshot.PinnedRole(context.Background(), w.identity.Pin())
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	w.must(err)
	tree, err := index.Open(context.Background(), treeSource(w.path("tree")), role.Targets[signing.IndexTarget("alice")])
	w.must(err)
	return role.Version, tree
}

type treeSource string

func (s treeSource) Document(_ context.Context, o repo.Object) ([]byte, error) {
	return os.ReadFile(filepath.Join(string(s), repo.DataPath(o.Digest)))
}

// check wants the repository to have exactly these packages, whole.
func (w *world) check(version int64, names ...string) {
	w.t.Helper()
	got, tree := w.index()
	if got != version || tree.Root.Packages != len(names) {
		w.t.Fatalf("version %d with %d packages, want version %d with %d", got, tree.Root.Packages, version, len(names))
	}
	if len(names) == 0 {
		return
	}
	finder, err := index.Find(context.Background(), treeSource(w.path("tree")), tree.Object)
	w.must(err)
	for _, name := range names {
		entries, err := finder.Named(context.Background(), repo.Name(name))
		w.must(err)
		if len(entries) == 0 {
			w.t.Errorf("%s is not in the index", name)
			continue
		}
		text, err := os.ReadFile(w.path("tree/" + repo.DataPath(entries[0].Record.Digest)))
		w.must(err)
		record, err := repo.DecodeRecord(text)
		w.must(err)
		blob, err := os.Open(w.path("tree/" + repo.BlobPath(record.Blob.Digest)))
		w.must(err)
		file, err := rpmfile.FromStart(blob)
		w.must(err)
		pkg, err := rpmfile.Build(file)
		w.must(err)
		again := pkg.Record
		if again.Blob != record.Blob || again.FileList != record.FileList {
			w.t.Errorf("%s: the blob gives another record", name)
		}
	}
}

func TestPublish(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.rpm(fixtures.Spec{Name: "a", Files: []fixtures.File{fixtures.Text("/opt/a", "a")}})
	b := w.rpm(fixtures.Spec{Name: "b"})
	plan, err := w.publish(w.publisher, a, b, a)
	w.must(err)
	if plan.From != 0 || plan.Version != 1 || len(plan.Added) != 2 || plan.Skipped != 1 || plan.Added[0].Name != "a" {
		t.Errorf("plan is %+v", plan)
	}
	w.check(1, "a", "b")
	list := w.path("list")
	w.must(os.WriteFile(list, []byte(w.rpm(fixtures.Spec{Name: "c"})+"\n\n"+a+"\n"), 0o600))
	plan, err = w.publish(w.publisher, "@"+list)
	w.must(err)
	if plan.Version != 2 || len(plan.Added) != 1 || plan.Skipped != 1 {
		t.Errorf("plan is %+v", plan)
	}
	w.check(2, "a", "b", "c")
	// Without files the role is signed again.
	_, err = w.publish(w.publisher)
	w.must(err)
	w.check(3, "a", "b", "c")
}

// TestPlanChangesNothing: a plan that is not submitted leaves no trace.
func TestPlanChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	plan, err := w.publisher.Plan(context.Background(), []string{w.rpm(fixtures.Spec{Name: "a"})}, nil)
	w.must(err)
	plan.Close()
	if version, _ := w.index(); version != 0 {
		t.Errorf("version %d is published", version)
	}
	_, err = w.publish(w.publisher, w.rpm(fixtures.Spec{Name: "b"}))
	w.must(err)
	w.check(1, "b")
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.publish(w.publisher, w.rpm(fixtures.Spec{Name: "a"}))
	w.must(err)
	broken := w.path("broken.rpm")
	w.must(os.WriteFile(broken, []byte("no package"), 0o600))
	other := w.rpm(fixtures.Spec{Name: "a", Summary: "changed"})
	for name, test := range map[string]struct {
		files []string
		want  string
	}{
		"taken version":         {[]string{other}, "taken: a-1.0-1.noarch"},
		"two under one":         {[]string{w.rpm(fixtures.Spec{Name: "x", Summary: "1"}), w.rpm(fixtures.Spec{Name: "x", Summary: "2"})}, "taken: x-"},
		"broken package":        {[]string{broken}, "malformed"},
		"no such file":          {[]string{w.path("absent.rpm")}, "absent.rpm"},
		"no such list":          {[]string{"@" + w.path("absent")}, "absent"},
		"good and bad together": {[]string{w.rpm(fixtures.Spec{Name: "good"}), broken}, "malformed"},
	} {
		if _, err := w.publish(w.publisher, test.files...); !contains(err, test.want) {
			t.Errorf("%s: got %v, want %q in it", name, err, test.want)
		}
	}
	w.check(1, "a")
}

// TestSecondMachine: one that has not signed what is published refuses, until
// it adopts it.
func TestSecondMachine(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.publish(w.publisher, w.rpm(fixtures.Spec{Name: "a"}))
	w.must(err)
	second := w.newPublisher("second")
	b := w.rpm(fixtures.Spec{Name: "b"})
	_, err = w.publish(second, b)
	var wire *api.Error
	if !errors.As(err, &wire) || wire.Code != api.Conflict || !contains(errors.New(wire.Hint), "--adopt") {
		t.Fatalf("got %v, want a conflict with a hint", err)
	}
	from, to, err := second.Adopt(context.Background())
	if err != nil || from != 0 || to != 1 {
		t.Fatalf("adopted %d to %d: %v", from, to, err)
	}
	_, err = w.publish(second, b)
	w.must(err)
	w.check(2, "a", "b")
	if _, err = w.publish(w.publisher, w.rpm(fixtures.Spec{Name: "c"})); !errors.As(err, &wire) || wire.Code != api.Conflict {
		t.Errorf("the first machine went on over the second's version: %v", err)
	}
}

func TestOneAtATime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	plan, err := w.publisher.Plan(context.Background(), nil, nil)
	w.must(err)
	if _, err := w.newPublisher("publisher").Plan(context.Background(), nil, nil); !contains(err, "another publish") {
		t.Errorf("got %v, want the lock to hold", err)
	}
	plan.Close()
	_, err = w.publish(w.publisher)
	w.must(err)
}

func TestPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	document, err := (&policy.Policy{Format: policy.Format, Role: "o-alice", Rules: []policy.Rule{
		{Action: policy.Allow, Packages: "*", Publisher: "alice", Key: w.identity.Pin().Digest}}}).Encode()
	w.must(err)
	ctx := context.Background()
	w.must(w.publisher.PublishPolicy(ctx, w.owner, document))
	client, err := signing.Open(signing.Options{Dir: t.TempDir(), Root: w.repository.Root()})
	w.must(err)
	snapshot, err := client.Refresh(ctx, signing.Dir(w.path("tree")))
	w.must(err)
	object, err := snapshot.Lookup(ctx, w.owner.Pin(), signing.PolicyTarget("alice"))
	w.must(err)
	if object != repo.ObjectOf(document) {
		t.Errorf("the policy is %v, want %v", object, repo.ObjectOf(document))
	}
	if b, err := os.ReadFile(w.path("tree/" + repo.DataPath(object.Digest))); err != nil || string(b) != string(document) {
		t.Errorf("the repository serves %q, %v", b, err)
	}
	if err := w.publisher.PublishPolicy(ctx, w.identity, document); err == nil {
		t.Error("a publisher's role signed a policy")
	}
	if err := w.publisher.PublishPolicy(ctx, w.owner, []byte("{}")); err == nil {
		t.Error("an empty policy was published")
	}
}

// TestInterruptedUpload: whatever the network does, the next publish goes on
// with the version that was signed, and sends nothing twice.
func TestInterruptedUpload(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"begin", "files", "commit"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.fail = func(at string, rw http.ResponseWriter) bool {
				if at == step {
					refuse(rw, api.BadRequest, "no")
				}
				return at == step
			}
			a := w.rpm(fixtures.Spec{Name: "a"})
			if _, err := w.publish(w.publisher, a); !contains(err, "no") {
				t.Fatalf("got %v, want the server's refusal", err)
			}
			w.fail = nil
			plan, err := w.publish(w.publisher, w.rpm(fixtures.Spec{Name: "b"}))
			w.must(err)
			if plan.From != 1 || plan.Version != 2 {
				t.Errorf("plan goes from %d to %d, want 1 to 2", plan.From, plan.Version)
			}
			w.check(2, "a", "b")
			seen := map[string]bool{}
			for _, digest := range w.sent {
				if seen[digest] {
					t.Errorf("%s was sent twice", digest)
				}
				seen[digest] = true
			}
		})
	}
}

// TestLostConnection: what may pass is tried again at once.
func TestLostConnection(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"begin", "files", "file", "commit", "committed"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			failed := false
			w.fail = func(at string, rw http.ResponseWriter) bool {
				if at != step || failed {
					return false
				}
				failed = true
				hangUp(rw)
				return true
			}
			_, err := w.publish(w.publisher, w.rpm(fixtures.Spec{Name: "a"}))
			w.must(err)
			w.check(1, "a")
			_, err = w.publish(w.publisher, w.rpm(fixtures.Spec{Name: "b"}))
			w.must(err)
			w.check(2, "a", "b")
		})
	}
}

// TestPendingFilesGone: without its packages a signed version can only be
// dropped, and only when asked.
func TestPendingFilesGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fail = func(at string, rw http.ResponseWriter) bool {
		if at == "begin" {
			refuse(rw, api.BadRequest, "no")
		}
		return at == "begin"
	}
	a := w.rpm(fixtures.Spec{Name: "a"})
	if _, err := w.publish(w.publisher, a); err == nil {
		t.Fatal("published through a refusal")
	}
	w.fail = nil
	w.must(os.Remove(a))
	b := w.rpm(fixtures.Spec{Name: "b"})
	var wire *api.Error
	if _, err := w.publish(w.publisher, b); !errors.As(err, &wire) || !contains(errors.New(wire.Hint), "--discard") {
		t.Fatalf("got %v, want a hint", err)
	}
	w.must(w.publisher.Discard(context.Background()))
	_, err := w.publish(w.publisher, b)
	w.must(err)
	w.check(1, "b")
}

// TestManyVersions: packs are folded into one, and the index stays whole.
func TestManyVersions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var names []string
	for i := range 18 {
		name := fmt.Sprintf("p%d", i)
		names = append(names, name)
		_, err := w.publish(w.publisher, w.rpm(fixtures.Spec{Name: name}))
		w.must(err)
	}
	w.check(18, names...)
	packs, err := filepath.Glob(filepath.Join(w.publisher.Dir, "*", "p-alice", "docs", "*"))
	if err != nil || len(packs) > 16 {
		t.Errorf("%d packs are kept: %v", len(packs), err)
	}
}

// TestFaults fails every step that changes the publisher's disk, one after
// the other, done and not done. After each the next publish finishes.
func TestFaults(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	broken := errors.New("disk is broken")
	version, names := int64(0), []string(nil)
	for _, after := range []bool{false, true} {
		for k := 0; ; k++ {
			name := fmt.Sprintf("f%d-%v", k, after)
			path := w.rpm(fixtures.Spec{Name: name})
			step := 0
			w.publisher.Disk = durable.Disk{Fault: func(_ durable.Step, path string) (error, error) {
				if !strings.Contains(path, "p-alice") {
					return nil, nil // signing's trust state has its own test
				}
				step++
				switch {
				case step-1 != k:
					return nil, nil
				case after:
					return nil, broken
				}
				return broken, nil
			}}
			_, err := w.publish(w.publisher, path)
			w.publisher.Disk = durable.Disk{}
			if err != nil && !errors.Is(err, broken) {
				t.Fatalf("step %d: got %v, want %v", k, err, broken)
			}
			plan, againErr := w.publish(w.publisher, path)
			if againErr != nil {
				t.Fatalf("step %d: the next publish fails: %v", k, againErr)
			}
			version = plan.Version
			names = append(names, name)
			if got, tree := w.index(); got != version || tree.Root.Packages != len(names) {
				t.Fatalf("step %d: version %d with %d packages, want version %d with %d", k, got, tree.Root.Packages, version, len(names))
			}
			if err == nil {
				break
			}
		}
	}
	w.check(version, names...)
}
