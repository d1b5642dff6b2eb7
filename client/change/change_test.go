package change_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"stork/client/catalog"
	"stork/client/chain"
	"stork/client/change"
	"stork/client/direct"
	"stork/client/solve"
	"stork/client/transaction"
	"stork/fixtures"
	"stork/fixtures/world"
	"stork/nestd/unpack"
	"stork/repo"
	"stork/repo/durable"
	"stork/signing/policy"
)

// TestMain lets this test binary be the unpacker.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == direct.UnpackerCommand {
		os.Exit(unpack.Main(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// machine is a guest without a nest: everything in it is real.
type machine struct {
	t     *testing.T
	r     *world.Repository
	alice *world.Publisher
	root  string
	alone *direct.Origin
}

func newMachine(t *testing.T, specs ...fixtures.Spec) *machine {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root, and in CI everything is there")
		}
		t.Skip("unpacking and placing need root")
	}
	m := &machine{t: t, r: world.New(t), root: world.TempDir(t)}
	m.alice = m.r.Join("alice")
	m.alice.Publish(specs...)
	m.alice.PublishPolicy(0, m.alice.Allow("*"))
	var err error
	m.alone, err = direct.Open(direct.Options{Dir: world.TempDir(t), Pins: m.alice.Pins(), Exe: "/proc/self/exe"})
	m.must(err)
	t.Cleanup(func() { m.must(m.alone.Close()) })
	return m
}

func (m *machine) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// with opens the guest as one command does.
func (m *machine) with(use func(*change.Guest)) {
	m.t.Helper()
	ctx := context.Background()
	guest, err := transaction.Open(ctx, transaction.Options{Root: m.root, Disk: durable.Disk{}})
	m.must(err)
	defer guest.Close()
	books, err := catalog.Open(ctx, catalog.Options{Pins: m.alice.Pins(), Origin: m.alone, Verify: chain.Verify, TrustDir: filepath.Join(m.root, "trust"), Now: m.r.Now})
	m.must(err)
	use(&change.Guest{Catalog: books, Nest: m.alone, Transaction: guest, Arch: "x86_64"})
}

func (m *machine) plan(action solve.Action, flags change.Flags, specs ...string) (p *change.Plan, err error) {
	m.t.Helper()
	m.with(func(g *change.Guest) { p, err = g.Plan(context.Background(), jobs(m.t, action, specs...), flags) })
	return p, err
}

func (m *machine) do(action solve.Action, flags change.Flags, specs ...string) *change.Outcome {
	m.t.Helper()
	var outcome *change.Outcome
	m.with(func(g *change.Guest) {
		p, err := g.Plan(context.Background(), jobs(m.t, action, specs...), flags)
		m.must(err)
		outcome, err = g.Execute(context.Background(), p, nil)
		m.must(err)
	})
	return outcome
}

func jobs(t *testing.T, action solve.Action, specs ...string) []solve.Job {
	t.Helper()
	var list []solve.Job
	for _, text := range specs {
		spec, err := solve.ParseSpec(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, solve.Job{Action: action, Spec: spec})
	}
	if len(list) == 0 {
		list = []solve.Job{{Action: action}}
	}
	return list
}

// steps writes a plan as "action package reason".
func steps(p *change.Plan) []string {
	var list []string
	for _, i := range p.Packages {
		text := strings.TrimSpace(string(i.Action) + " " + string(i.Name) + "-" + i.Version + " " + string(i.Reason))
		if len(i.Replaces) > 0 {
			text += " replaces " + strings.Join(i.Replaces, ",")
		}
		list = append(list, text)
	}
	return list
}

func (m *machine) wantSteps(p *change.Plan, want ...string) {
	m.t.Helper()
	if got := steps(p); !slices.Equal(got, want) {
		m.t.Errorf("plan is\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// state is what is installed, with reasons.
func (m *machine) wantState(want ...string) {
	m.t.Helper()
	var got []string
	m.with(func(g *change.Guest) {
		state := g.Transaction.State()
		for i := range state.Packages {
			got = append(got, state.Packages[i].NEVRA().String()+" "+string(state.Packages[i].Reason))
		}
	})
	if !slices.Equal(got, want) {
		m.t.Errorf("installed %q, want %q", got, want)
	}
}

func spec(name, version string, requires ...string) fixtures.Spec {
	return fixtures.Spec{Name: name, Version: version, Requires: requires,
		Files: []fixtures.File{fixtures.Text("/opt/"+name, name+" "+version), fixtures.ConfigFile("/etc/"+name, version)}}
}

// TestLife installs, upgrades, reinstalls and removes.
func TestLife(t *testing.T) {
	t.Parallel()
	m := newMachine(t, spec("app", "1", "lib"), spec("lib", "1"))
	p, err := m.plan(solve.Install, change.Flags{}, "app")
	m.must(err)
	m.wantSteps(p, "install lib-1-1 dependency", "install app-1-1 user")
	if p.Packages[0].For != "app-1-1.noarch" || p.Download <= 0 || p.Written != p.Size || p.Incoming() != 2 || p.Packages[0].OnHost {
		t.Errorf("plan %+v", p)
	}
	m.wantState()
	outcome := m.do(solve.Install, change.Flags{}, "app")
	if got := strings.Join(outcome.Installed, " "); got != "lib-1-1.noarch app-1-1.noarch" || outcome.Fetched != p.Download || outcome.Stored == 0 || len(outcome.Failed)+len(outcome.Warnings) > 0 {
		t.Errorf("outcome %+v, planned download %d", outcome, p.Download)
	}
	m.wantState("app-1-1.noarch user", "lib-1-1.noarch dependency")
	b, err := os.ReadFile(filepath.Join(m.root, "opt/app"))
	if err != nil || string(b) != "app 1" {
		t.Errorf("file is %q, %v", b, err)
	}

	p, err = m.plan(solve.Install, change.Flags{}, "app")
	m.must(err)
	if !p.Empty() || !slices.Equal(p.Satisfied, []string{"app"}) {
		t.Errorf("installing it again: %+v", p)
	}

	outcome = m.do(solve.Reinstall, change.Flags{}, "lib")
	m.wantSteps(outcome.Plan, "reinstall lib-1-1 dependency")
	if !slices.Equal(outcome.Installed, []string{"lib-1-1.noarch"}) || len(outcome.Failed) > 0 {
		t.Errorf("reinstall: %+v", outcome)
	}
	m.wantState("app-1-1.noarch user", "lib-1-1.noarch dependency")

	m.alice.Publish(spec("app", "2", "lib >= 2"), spec("lib", "2"))
	outcome = m.do(solve.Upgrade, change.Flags{})
	m.wantSteps(outcome.Plan, "upgrade lib-2-1 dependency replaces lib-1-1.noarch", "upgrade app-2-1 user replaces app-1-1.noarch")
	m.wantState("app-2-1.noarch user", "lib-2-1.noarch dependency")

	if _, err := m.plan(solve.Remove, change.Flags{}, "lib"); err == nil {
		t.Error("what app needs could be removed")
	}
	outcome = m.do(solve.Remove, change.Flags{AllowErasing: true}, "lib")
	if got := strings.Join(outcome.Removed, " "); got != "app-2-1.noarch lib-2-1.noarch" || outcome.Fetched+outcome.Stored+outcome.Shared != 0 {
		t.Errorf("removal: %+v", outcome)
	}
	m.wantState()
	if _, err := os.Lstat(filepath.Join(m.root, "opt/app")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
}

// TestAskedFor: what came as a dependency and is then asked for counts as
// asked for, with nothing else done.
func TestAskedFor(t *testing.T) {
	t.Parallel()
	m := newMachine(t, spec("app", "1", "lib"), spec("lib", "1"))
	m.do(solve.Install, change.Flags{}, "app")
	p, err := m.plan(solve.Install, change.Flags{}, "lib", "app")
	m.must(err)
	if !p.Empty() || p.Idle() || !slices.Equal(p.Asked, []string{"lib-1-1.noarch"}) {
		t.Errorf("plan %+v", p)
	}
	m.do(solve.Install, change.Flags{}, "lib", "app")
	m.wantState("app-1-1.noarch user", "lib-1-1.noarch user")
	p, err = m.plan(solve.Install, change.Flags{}, "lib")
	m.must(err)
	if !p.Idle() {
		t.Errorf("it is asked for already, plan %+v", p)
	}
}

// TestReplace: a package that obsoletes another takes its place in one step.
func TestReplace(t *testing.T) {
	t.Parallel()
	m := newMachine(t, spec("old", "1"))
	m.do(solve.Install, change.Flags{}, "old")
	fresh := spec("new", "1")
	fresh.Obsoletes, fresh.Provides = []string{"old < 2"}, []string{"old = 2"}
	m.alice.Publish(fresh)
	outcome := m.do(solve.Upgrade, change.Flags{})
	m.wantSteps(outcome.Plan, "upgrade new-1-1 user replaces old-1-1.noarch")
	m.wantState("new-1-1.noarch user")
}

// TestRemoveAlone: removing needs neither catalog nor nest.
func TestRemoveAlone(t *testing.T) {
	t.Parallel()
	m := newMachine(t, spec("app", "1"))
	m.do(solve.Install, change.Flags{}, "app")
	m.r.Server.Close()
	ctx := context.Background()
	guest, err := transaction.Open(ctx, transaction.Options{Root: m.root})
	m.must(err)
	defer guest.Close()
	g := &change.Guest{Transaction: guest, Arch: "x86_64"}
	p, err := g.Plan(ctx, jobs(t, solve.Remove, "app"), change.Flags{})
	m.must(err)
	outcome, err := g.Execute(ctx, p, nil)
	if err != nil || !slices.Equal(outcome.Removed, []string{"app-1-1.noarch"}) {
		t.Errorf("outcome %+v, %v", outcome, err)
	}
}

// TestWhyNot: refused, absent and unsolvable are three different answers.
func TestWhyNot(t *testing.T) {
	t.Parallel()
	secret := spec("secret", "1")
	secret.Provides = []string{"libsecret"}
	m := newMachine(t, secret, spec("app", "1", "libsecret"), spec("broken", "1", "nowhere"), spec("loud", "1"))
	m.alice.PublishPolicy(0, policy.Rule{Action: policy.Deny, Packages: "secret"}, m.alice.Allow("*"))
	for what, want := range map[string]struct {
		refused bool
		text    string
	}{
		"secret":    {true, "secret-1-1.noarch from alice"},
		"secret=1":  {true, "secret-1-1.noarch from alice"},
		"libsecret": {true, "secret-1-1.noarch from alice"},
		"app":       {true, "secret-1-1.noarch from alice"},
		"broken":    {false, "nowhere"},
		"nothing":   {false, "nothing"},
	} {
		_, err := m.plan(solve.Install, change.Flags{}, what)
		var unsolvable *solve.Unsolvable
		if errors.Is(err, change.ErrRefused) != want.refused || errors.As(err, &unsolvable) == want.refused || !strings.Contains(err.Error(), want.text) {
			t.Errorf("%s: got %v", what, err)
		}
	}
	m.wantState()
}

// TestFailedScriptlet: one package fails, the other is installed, and the
// outcome says so.
func TestFailedScriptlet(t *testing.T) {
	t.Parallel()
	bad := spec("bad", "1")
	bad.Scriptlets = []repo.Scriptlet{fixtures.Script(repo.Pre, "exit 1")} // and there is no shell in the guest
	m := newMachine(t, bad, spec("good", "1"))
	outcome := m.do(solve.Install, change.Flags{}, "bad", "good")
	if len(outcome.Failed) != 1 || outcome.Failed[0].Package != "bad-1-1.noarch" || outcome.Failed[0].Error == "" || !slices.Equal(outcome.Installed, []string{"good-1-1.noarch"}) {
		t.Errorf("outcome %+v", outcome)
	}
	m.wantState("good-1-1.noarch user")
}

// TestChangedMeanwhile: what is wrong with a package's bytes changes nothing
// in the guest.
func TestChangedMeanwhile(t *testing.T) {
	t.Parallel()
	m := newMachine(t, spec("app", "1"))
	ctx := context.Background()
	m.with(func(g *change.Guest) {
		p, err := g.Plan(ctx, jobs(t, solve.Install, "app"), change.Flags{})
		m.must(err)
		record, err := repo.DecodeRecord(m.r.Read(repo.DataPath(p.Packages[0].ID)))
		m.must(err)
		m.r.Write(repo.BlobPath(record.Blob.Digest), make([]byte, record.Blob.Size))
		if outcome, err := g.Execute(ctx, p, nil); err == nil {
			t.Errorf("got %+v, want an error", outcome)
		}
	})
	m.wantState()
}
