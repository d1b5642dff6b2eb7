package nest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"stork/fixtures"
	"stork/nestd/api"
	"stork/nestd/internal/attach"
	"stork/repo"
	"stork/repo/durable"
)

// many returns n packages and their names.
func many(n int) (specs []fixtures.Spec, names []string) {
	for i := range n {
		spec := hello(fmt.Sprintf("p%02d", i))
		for j := range 12 {
			spec.Files = append(spec.Files, fixtures.Text(fmt.Sprintf("/usr/share/all/%02d-%02d", i, j), fmt.Sprint(i, j)))
		}
		specs, names = append(specs, spec), append(names, spec.Name)
	}
	return specs, names
}

// want is an environment of packages by name.
func (o *origin) want(names ...string) api.EnvironmentRequest {
	request := api.EnvironmentRequest{View: "/run/stork/view"}
	for _, name := range names {
		request.Packages = append(request.Packages, o.ids[name])
	}
	return request
}

// environment does what Environment does, without mounting anything.
func environment(n *Nest, guest string, request api.EnvironmentRequest) ([]repo.Digest, error) {
	w, err := wantedOf(request)
	if err != nil {
		return nil, err
	}
	return n.refersTo(context.Background(), guest, w, request.Keep)
}

func mustEnvironment(t *testing.T, n *Nest, guest string, request api.EnvironmentRequest) []repo.Digest {
	t.Helper()
	stack, err := environment(n, guest, request)
	must(t, err)
	return stack
}

// prepared publishes and prepares packages for guests.
func preparedFor(t *testing.T, guests []string, specs []fixtures.Spec) (*origin, *Nest) {
	t.Helper()
	o := newOrigin(t)
	o.publish(specs...)
	n := startNest(t, o)
	refreshed(t, n)
	for _, guest := range guests {
		addGuest(t, n, guest)
		var names []string
		for _, spec := range specs {
			names = append(names, spec.Name)
		}
		if _, err := prepareAll(n, guest, o, names...); err != nil {
			t.Fatal(err)
		}
	}
	return o, n
}

// filesOf returns the paths of files that a stack of trees shows.
func filesOf(t *testing.T, n *Nest, stack []repo.Digest) []string {
	t.Helper()
	shown := map[string]bool{}
	for _, id := range slices.Backward(stack) {
		root := layerOf(t, n, id)
		must(t, filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			p := strings.TrimPrefix(file, root)
			if d.Type()&fs.ModeCharDevice == 0 {
				shown[p] = true
				return nil
			}
			for other := range shown {
				if other == p || strings.HasPrefix(other, p+"/") {
					delete(shown, other)
				}
			}
			return nil
		}))
	}
	var list []string
	for p := range shown {
		list = append(list, p)
	}
	slices.Sort(list)
	return list
}

// filesIn returns the shared files that many's packages have.
func filesIn(names ...string) []string {
	var list []string
	for _, name := range names {
		list = append(list, "/opt/"+name+"/hello", "/opt/"+name+"/shared")
		for j := range 12 {
			list = append(list, fmt.Sprintf("/usr/share/all/%s-%02d", strings.TrimPrefix(name, "p"), j))
		}
	}
	slices.Sort(list)
	return list
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	specs, names := many(6)
	o, n := preparedFor(t, []string{"g1", "g2"}, specs)
	ctx := context.Background()

	first := mustEnvironment(t, n, "g1", o.want(names[:5]...))
	if diff := cmp.Diff(filesIn(names[:5]...), filesOf(t, n, first)); diff != "" || len(first) != 1 {
		t.Errorf("%d trees (-want +got):\n%s", len(first), diff)
	}
	// Another guest has the same, in whatever order it names the packages.
	reversed := slices.Clone(names[:5])
	slices.Reverse(reversed)
	if second := mustEnvironment(t, n, "g2", o.want(append(reversed, reversed...)...)); !slices.Equal(first, second) {
		t.Errorf("another guest has %v, want %v", second, first)
	}
	// One more, and one less, are what differs.
	more := mustEnvironment(t, n, "g1", o.want(names...))
	if diff := cmp.Diff(filesIn(names...), filesOf(t, n, more)); diff != "" || len(more) != 2 || more[1] != first[0] {
		t.Errorf("one more: trees %v on %v (-want +got):\n%s", more, first, diff)
	}
	less := mustEnvironment(t, n, "g2", o.want(names[1:5]...))
	if diff := cmp.Diff(filesIn(names[1:5]...), filesOf(t, n, less)); diff != "" || len(less) != 2 || less[1] != first[0] {
		t.Errorf("one less: trees %v on %v (-want +got):\n%s", less, first, diff)
	}
	checkSound(t, n)
	stats, err := n.StoreStats(ctx)
	must(t, err)
	if stats.Layers != 6 || stats.Trees != 3 || stats.TreeBytes == 0 {
		t.Errorf("stats: %+v", stats)
	}

	// What nobody has any more goes: not the tree below others.
	must(t, n.References(ctx, "g1", api.References{Environments: []repo.Digest{wantedID(t, o.want(names...))}}))
	dropped(t, n)
	mustHaveTrees(t, n, first[0], more[0], less[0])
	must(t, n.References(ctx, "g1", api.References{})) // says nothing of environments
	dropped(t, n)
	mustHaveTrees(t, n, first[0], more[0], less[0])
	if stack := mustEnvironment(t, n, "g1", o.want()); len(stack) != 0 {
		t.Errorf("an environment of nothing has %v", stack)
	}
	dropped(t, n)
	mustHaveTrees(t, n, first[0], less[0])
	must(t, n.RemoveGuest(ctx, "g2"))
	dropped(t, n)
	mustHaveTrees(t, n)
	checkSound(t, n)
	// What comes again is built again.
	mustEnvironment(t, n, "g1", o.want(names[:5]...))
	checkSound(t, n)
}

func wantedID(t *testing.T, request api.EnvironmentRequest) repo.Digest {
	t.Helper()
	w, err := wantedOf(request)
	must(t, err)
	return w.id
}

// dropped drops what nobody uses, and waits for whoever else does.
func dropped(t *testing.T, n *Nest) {
	t.Helper()
	must(t, n.dropTrees(context.Background()))
	waitFor(t, "removals", func() bool {
		n.trees.mu.Lock()
		defer n.trees.mu.Unlock()
		return len(n.trees.gone) == 0
	})
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long for %s", what)
		}
	}
}

// mustHaveTrees fails the test if there are other trees, in rows or files.
func mustHaveTrees(t *testing.T, n *Nest, want ...repo.Digest) {
	t.Helper()
	rows, err := n.State.Trees(context.Background())
	must(t, err)
	if len(rows) != len(want) {
		t.Errorf("%d trees have rows, want %d", len(rows), len(want))
	}
	layers, err := n.State.Layers(context.Background())
	must(t, err)
	placed, err := n.Store.Layers()
	must(t, err)
	if len(placed) != len(layers)+len(want) {
		t.Errorf("%d trees are placed, want %d layers and %d trees", len(placed), len(layers), len(want))
	}
	for _, id := range want {
		if !slices.Contains(placed, id) {
			t.Errorf("tree %s is gone", id.Short())
		}
	}
}

// TestEnvironmentIsolation: a stack never has a tree that shows packages which
// the guest is not entitled to, though those above hide them.
func TestEnvironmentIsolation(t *testing.T) {
	t.Parallel()
	specs, names := many(7)
	o, n := preparedFor(t, []string{"rich"}, specs)
	addGuest(t, n, "poor")
	if _, err := prepareAll(n, "poor", o, names[:6]...); err != nil {
		t.Fatal(err)
	}
	if _, err := environment(n, "poor", o.want(names...)); !errors.Is(err, attach.ErrNotEntitled) {
		t.Errorf("got %v, want not entitled", err)
	}
	all := mustEnvironment(t, n, "rich", o.want(names...))
	less := mustEnvironment(t, n, "rich", o.want(names[:6]...))
	if len(less) != 2 || less[1] != all[0] {
		t.Errorf("the rich guest has trees %v, want one on %v", less, all)
	}
	own := mustEnvironment(t, n, "poor", o.want(names[:6]...))
	if len(own) != 1 || own[0] == less[0] || own[0] == all[0] {
		t.Errorf("the poor guest has trees %v; the rich one %v and %v", own, less, all)
	}
	for _, id := range own {
		if _, err := os.Lstat(filepath.Join(layerOf(t, n, id), "opt", names[6])); err == nil {
			t.Error("the poor guest sees what it is not entitled to")
		}
	}
	// From now on the flat one is there for all.
	addGuest(t, n, "third")
	if _, err := prepareAll(n, "third", o, names...); err != nil {
		t.Fatal(err)
	}
	if got := mustEnvironment(t, n, "third", o.want(names[:6]...)); !slices.Equal(got, own) {
		t.Errorf("the third guest has %v, want %v", got, own)
	}
	// Who has a stack keeps it.
	if got := mustEnvironment(t, n, "rich", o.want(names[:6]...)); !slices.Equal(got, less) {
		t.Errorf("asked again, the rich guest has %v, want %v", got, less)
	}
	checkSound(t, n)
}

// TestEnvironmentSteps: one package after another never makes a high stack,
// and what the trees show is always right.
func TestEnvironmentSteps(t *testing.T) {
	t.Parallel()
	specs, names := many(20)
	o, n := preparedFor(t, []string{"g1"}, specs)
	has, low, whole := slices.Clone(names[:8]), 0, 0
	for step := range 20 {
		if step < 12 {
			has = append(has, names[8+step])
		} else {
			has = has[1:]
		}
		stack := mustEnvironment(t, n, "g1", o.want(has...))
		dropped(t, n)
		if len(stack) > api.MaxTrees {
			t.Fatalf("step %d: %d trees", step, len(stack))
		}
		if len(stack) == 1 {
			whole++
		} else if len(stack) < api.MaxTrees {
			low++
		}
		if diff := cmp.Diff(filesIn(has...), filesOf(t, n, stack)); diff != "" {
			t.Fatalf("step %d, %d trees (-want +got):\n%s", step, len(stack), diff)
		}
	}
	if low == 0 || whole < 2 || whole > 8 {
		t.Errorf("of 20 steps %d made a whole tree and %d a low stack", whole, low)
	}
	checkSound(t, n)
}

func TestEnvironmentRefusals(t *testing.T) {
	t.Parallel()
	specs, names := many(2)
	o, n := preparedFor(t, []string{"g1"}, specs)
	aliases := map[string]string{}
	for i := range api.MaxAliases + 1 {
		aliases[fmt.Sprint("/a", i)] = "/usr/bin"
	}
	for _, test := range []struct {
		name   string
		code   api.Code
		change func(*api.EnvironmentRequest)
	}{
		{"packages", api.TooLarge, func(r *api.EnvironmentRequest) {
			r.Packages = slices.Repeat(r.Packages, api.MaxEnvironmentPackages)
		}},
		{"aliases", api.TooLarge, func(r *api.EnvironmentRequest) { r.Aliases = aliases }},
		{"keep", api.TooLarge, func(r *api.EnvironmentRequest) { r.Keep = make([]repo.Digest, api.MaxKeep+1) }},
		{"alias", api.BadRequest, func(r *api.EnvironmentRequest) { r.Aliases = map[string]string{"bin": "/usr/bin"} }},
		{"chain", api.BadRequest, func(r *api.EnvironmentRequest) {
			r.Aliases = map[string]string{"/bin": "/sbin", "/sbin": "/usr/bin"}
		}},
		{"view", api.BadRequest, func(r *api.EnvironmentRequest) { r.View = "view" }},
		{"not prepared", api.NotEntitled, func(r *api.EnvironmentRequest) { r.Packages[0] = repo.DigestOf(nil) }},
	} {
		request := o.want(names...)
		test.change(&request)
		_, err := environment(n, "g1", request)
		if err == nil || Explain(err).Code != test.code {
			t.Errorf("%s: got %v, want %s", test.name, err, test.code)
		}
	}
	if _, err := environment(n, "nobody", o.want(names...)); err == nil || Explain(err).Code != api.NotEntitled {
		t.Errorf("got %v", err)
	}
	if err := n.References(context.Background(), "g1", api.References{Environments: make([]repo.Digest, api.MaxKeep+1)}); !errors.Is(err, errTooMany) {
		t.Errorf("got %v, want too many", err)
	}
	mustHaveTrees(t, n)
}

func TestEnvironmentConflict(t *testing.T) {
	t.Parallel()
	a, b := hello("one"), hello("two")
	a.Files = append(a.Files, fixtures.Text("/usr/share/thing", "a"))
	b.Files = append(b.Files, fixtures.Text("/usr/share/thing", "b"))
	o, n := preparedFor(t, []string{"g1"}, []fixtures.Spec{a, b})
	_, err := environment(n, "g1", o.want("one", "two"))
	if err == nil {
		t.Fatal("no conflict")
	}
	wire := Explain(err)
	for _, part := range []string{"one", "two", "/usr/share/thing"} {
		if !strings.Contains(wire.Message, part) {
			t.Errorf("%q does not name %s", wire.Message, part)
		}
	}
	if wire.Code != api.Conflict {
		t.Errorf("code is %s", wire.Code)
	}
	mustHaveTrees(t, n)
	checkSound(t, n)
}

// TestFiftyGuestsOneMerge: however many guests ask for an environment at the
// same moment, it is built once.
func TestFiftyGuestsOneMerge(t *testing.T) {
	t.Parallel()
	needRoot(t)
	specs, names := many(4)
	o := newOrigin(t)
	o.publish(specs...)
	dir := t.TempDir()
	var stages atomic.Int64
	staging := filepath.Join(dir, "store", "staging")
	n, err := openNest(t, dir, o, durable.Disk{Fault: func(step durable.Step, path string) (before, after error) {
		if step == durable.StepMkdir && filepath.Dir(path) == staging {
			stages.Add(1)
		}
		return nil, nil
	}})
	must(t, err)
	t.Cleanup(func() { must(t, n.Close()) })
	refreshed(t, n)
	guests := make([]string, 50)
	for i := range guests {
		guests[i] = fmt.Sprintf("g%d", i)
		addGuest(t, n, guests[i])
		if _, err := prepareAll(n, guests[i], o, names...); err != nil {
			t.Fatal(err)
		}
	}
	before := stages.Load()
	var wg sync.WaitGroup
	for _, guest := range guests {
		wg.Go(func() {
			if _, err := environment(n, guest, o.want(names...)); err != nil {
				t.Errorf("%s: %v", guest, err)
			}
		})
	}
	wg.Wait()
	if built := stages.Load() - before; built != 1 {
		t.Errorf("built %d times, want once", built)
	}
	mustHaveTrees(t, n, wantedID(t, o.want(names...)))
}

// TestEnvironmentCancelled: when nobody waits for a build any more it ends,
// and leaves nothing; the next one begins anew.
func TestEnvironmentCancelled(t *testing.T) {
	t.Parallel()
	needRoot(t)
	specs, names := many(4)
	o := newOrigin(t)
	o.publish(specs...)
	dir := t.TempDir()
	var armed atomic.Bool
	reached, goOn := make(chan struct{}), make(chan struct{})
	n, err := openNest(t, dir, o, durable.Disk{Fault: func(step durable.Step, path string) (before, after error) {
		if step == durable.StepLink && armed.CompareAndSwap(true, false) {
			close(reached)
			<-goOn
		}
		return nil, nil
	}})
	must(t, err)
	t.Cleanup(func() { must(t, n.Close()) })
	refreshed(t, n)
	addGuest(t, n, "g1")
	if _, err := prepareAll(n, "g1", o, names...); err != nil {
		t.Fatal(err)
	}
	armed.Store(true)
	ctx, cancel := context.WithCancel(context.Background())
	w, err := wantedOf(o.want(names...))
	must(t, err)
	failed := make(chan error, 1)
	go func() {
		_, err := n.refersTo(ctx, "g1", w, nil)
		failed <- err
	}()
	<-reached
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want canceled", err)
	}
	close(goOn)
	staging := filepath.Join(dir, "store", "staging")
	waitFor(t, "the end of the build", func() bool {
		left, err := os.ReadDir(staging)
		must(t, err)
		return len(left) == 0
	})
	mustHaveTrees(t, n)
	mustEnvironment(t, n, "g1", o.want(names...))
	checkSound(t, n)
}

// TestFaultsInEnvironment fails every step of going from one environment to
// the next and of dropping the first. The next start finds all sound, and the
// guest has what it asks for.
func TestFaultsInEnvironment(t *testing.T) {
	t.Parallel()
	needRoot(t)
	specs, names := many(1)
	specs, names = append(specs, hello("p01")), append(names, "p01") // few files: a delta tree
	o := newOrigin(t)
	o.publish(specs...)
	ctx := context.Background()
	before := func(n *Nest) error {
		addGuest(t, n, "g1")
		refreshed(t, n)
		if _, err := prepareAll(n, "g1", o, names...); err != nil {
			return err
		}
		_, err := environment(n, "g1", o.want(names[:1]...))
		return err
	}
	act := func(n *Nest) error {
		if _, err := environment(n, "g1", o.want(names...)); err != nil {
			return err
		}
		if _, err := environment(n, "g1", o.want()); err != nil {
			return err
		}
		return n.dropTrees(ctx)
	}
	everyFault(t, o, before, act, func(t *testing.T, n *Nest) {
		checkSound(t, n)
		both := append(filesIn(names[:1]...), "/opt/p01/hello", "/opt/p01/shared")
		slices.Sort(both)
		for count, want := range map[int][]string{2: both, 1: filesIn(names[:1]...)} {
			stack, err := environment(n, "g1", o.want(names[:count]...))
			if err != nil {
				t.Error(err)
				continue
			}
			if diff := cmp.Diff(want, filesOf(t, n, stack)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		}
		checkSound(t, n)
	})
}

// TestEnvironmentLost: a tree that is not there any more is built again; so
// are those that lay on it.
func TestEnvironmentLost(t *testing.T) {
	t.Parallel()
	needRoot(t)
	specs, names := many(4)
	o := newOrigin(t)
	o.publish(specs...)
	dir := t.TempDir()
	n, err := openNest(t, dir, o, noFaults)
	must(t, err)
	refreshed(t, n)
	addGuest(t, n, "g1")
	_, err = prepareAll(n, "g1", o, names...)
	must(t, err)
	whole := mustEnvironment(t, n, "g1", o.want(names[:3]...))
	mustEnvironment(t, n, "g1", o.want(names...))
	must(t, n.Close())
	must(t, os.RemoveAll(filepath.Join(dir, "store", "layers", whole[0].Hex()[:2], whole[0].Hex())))
	n, err = openNest(t, dir, o, noFaults)
	must(t, err)
	defer func() { must(t, n.Close()) }()
	stack := mustEnvironment(t, n, "g1", o.want(names...))
	if diff := cmp.Diff(filesIn(names...), filesOf(t, n, stack)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	checkSound(t, n)
}

// TestUnusedEnvironmentsGoAtStart: a crash between the last reference and the
// removal costs room until the next start.
func TestUnusedEnvironmentsGoAtStart(t *testing.T) {
	t.Parallel()
	needRoot(t)
	specs, names := many(2)
	o := newOrigin(t)
	o.publish(specs...)
	dir := t.TempDir()
	n, err := openNest(t, dir, o, noFaults)
	must(t, err)
	refreshed(t, n)
	addGuest(t, n, "g1")
	_, err = prepareAll(n, "g1", o, names...)
	must(t, err)
	mustEnvironment(t, n, "g1", o.want(names...))
	must(t, n.State.KeepEnvironments(context.Background(), "g1", nil))
	must(t, n.Close())
	n, err = openNest(t, dir, o, noFaults)
	must(t, err)
	defer func() { must(t, n.Close()) }()
	waitFor(t, "the environment to go", func() bool {
		placed, err := n.Store.Layers()
		must(t, err)
		return len(placed) == 2
	})
	mustHaveTrees(t, n)
	checkSound(t, n)
}

// TestTreeID holds the format: IDs are stored, and must not change.
func TestTreeID(t *testing.T) {
	t.Parallel()
	layers := []repo.Digest{repo.DigestOf([]byte("a")), repo.DigestOf([]byte("b"))}
	slices.SortFunc(layers, compareDigests)
	aliases := map[string]string{"/lib": "/usr/lib", "/bin": "/usr/bin"}
	whole := treeID(layers, aliases, nil)
	for got, want := range map[repo.Digest]string{
		treeID(nil, nil, nil):               "ac2771f97487b8a71b81bc441e197541749d5202e26e7076ba49b77787b5b538",
		whole:                               "114417883cff4406cfff0bec95d493af204e5ae62b104fa68a14fb8cf9d69e7e",
		treeID(layers[:1], aliases, &whole): "96a25e3d6c6386b95369ae5e4e38e9c0f59c75658b32384e2207f1f74b5177b7",
	} {
		if got.Hex() != want {
			t.Errorf("got %s, want %s", got.Hex(), want)
		}
	}
}
