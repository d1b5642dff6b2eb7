package solve

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"stork/repo"
)

// scene is one row of a table: what there is, what is asked, what comes out.
type scene struct {
	name      string
	available []string // "nevra; line; line"
	installed []string
	guest     guest
	jobs      string // "install a, remove b"
	set       func(*Request)
	want      []string // changes, sorted
	problem   []string // words that the error contains
	steps     []string // names in order, if given
}

func (c scene) packages(t *testing.T, list []string) []*Package {
	t.Helper()
	var out []*Package
	for _, text := range list {
		fields := strings.Split(text, "; ")
		publisher, nevra, ok := strings.Cut(fields[0], ":")
		if !ok {
			publisher, nevra = "", fields[0]
		}
		p := pkg(t, nevra, fields[1:]...)
		p.Publisher = repo.Publisher(publisher)
		out = append(out, p)
	}
	return out
}

func jobsOf(t *testing.T, text string) []Job {
	t.Helper()
	var jobs []Job
	for one := range strings.SplitSeq(text, ", ") {
		action, what, _ := strings.Cut(one, " ")
		job := Job{Action: Action(action)}
		if what != "" {
			spec, err := ParseSpec(what)
			if err != nil {
				t.Fatal(err)
			}
			job.Spec = spec
		}
		jobs = append(jobs, job)
	}
	return jobs
}

func (c scene) solve(t *testing.T) (*Transaction, *world, error) {
	t.Helper()
	w := newWorld(c.packages(t, c.available)...)
	request := Request{Arch: "x86_64", Installed: installed(c.packages(t, c.installed)...), Jobs: jobsOf(t, c.jobs)}
	if c.set != nil {
		c.set(&request)
	}
	got, err := Solve(context.Background(), request, w, c.guest)
	return got, w, err
}

func runScenes(t *testing.T, scenes []scene) {
	for _, c := range scenes {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, _, err := c.solve(t)
			if c.problem != nil {
				if _, ok := IsUnsolvable(err); !ok {
					t.Fatalf("got %v, %v, want an Unsolvable", got, err)
				}
				for _, words := range c.problem {
					if !strings.Contains(err.Error(), words) {
						t.Errorf("error does not say %q:\n%v", words, err)
					}
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(append([]string(nil), c.want...), changes(got)); diff != "" {
				t.Error(diff)
			}
			if c.steps != nil {
				var steps []string
				for _, s := range got.Steps {
					steps = append(steps, string(s.Package.Name))
				}
				if diff := cmp.Diff(c.steps, steps); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

func erasing(r *Request)   { r.AllowErasing = true }
func best(r *Request)      { r.Best = true }
func noWeak(r *Request)    { r.NoWeak = true }
func downgrade(r *Request) { r.AllowDowngrade = true }
func switching(r *Request) { r.AllowPublishers = true }

func TestInstall(t *testing.T) {
	t.Parallel()
	lib := "lib-1-1.x86_64; provides: liblib.so.1()(64bit)"
	runScenes(t, []scene{
		{name: "newest", available: []string{"a-1-1.noarch", "a-2-1.noarch", "a-1.5-1.noarch"}, jobs: "install a", want: []string{"install a-2-1.noarch"}},
		{name: "version", available: []string{"a-1-1.noarch", "a-2-1.noarch"}, jobs: "install a<2", want: []string{"install a-1-1.noarch"}},
		{name: "arch", available: []string{"a-1-1.x86_64", "a-2-1.i686", "a-3-1.aarch64"}, jobs: "install a", want: []string{"install a-1-1.x86_64"}},
		{name: "native before noarch", available: []string{"a-1-1.noarch", "a-1-1.x86_64"}, jobs: "install a", want: []string{"install a-1-1.x86_64"}},
		{name: "arch asked for", available: []string{"a-1-1.noarch", "a-1-1.x86_64"}, jobs: "install a.noarch", want: []string{"install a-1-1.noarch"}},
		{name: "glob", available: []string{"lib-a-1-1.noarch", "lib-b-1-1.noarch", "lib-b-2-1.noarch", "c-1-1.noarch"}, jobs: "install lib-*",
			want: []string{"install lib-a-1-1.noarch", "install lib-b-2-1.noarch"}},
		{name: "path", available: []string{"a-1-1.noarch; path: /usr/bin/a"}, jobs: "install /usr/bin/a", want: []string{"install a-1-1.noarch"}},
		{name: "capability", available: []string{lib}, jobs: "install liblib.so.1()(64bit)", want: []string{"install lib-1-1.x86_64"}},
		{name: "name that is a capability", available: []string{"a-1-1.noarch; provides: web"}, jobs: "install web", want: []string{"install a-1-1.noarch"}},
		{name: "closure", available: []string{"a-1-1.noarch; requires: liblib.so.1()(64bit)", lib}, jobs: "install a",
			want: []string{"install a-1-1.noarch", "install lib-1-1.x86_64"}, steps: []string{"lib", "a"}},
		{name: "the guest has it", available: []string{"a-1-1.noarch; requires: liblib.so.1()(64bit)", lib}, jobs: "install a",
			guest: guest{"liblib.so.1()(64bit)"}, want: []string{"install a-1-1.noarch"}},
		{name: "the guest has it too old", available: []string{"a-1-1.noarch; requires: tool >= 2", "tool-2-1.noarch"}, jobs: "install a",
			guest: guest{"tool = 1"}, want: []string{"install a-1-1.noarch", "install tool-2-1.noarch"}},
		{name: "the guest has what is asked for", available: []string{"a-1-1.noarch; path: /bin/a"}, jobs: "install /bin/a", guest: guest{"/bin/a"}},
		{name: "already there", available: []string{"a-2-1.noarch"}, installed: []string{"a-1-1.noarch"}, jobs: "install a"},
		{name: "already there, best", available: []string{"a-2-1.noarch"}, installed: []string{"a-1-1.noarch"}, jobs: "install a", set: best,
			want: []string{"upgrade a-1-1.noarch a-2-1.noarch"}},
		{name: "older by request", available: []string{"a-1-1.noarch"}, installed: []string{"a-2-1.noarch"}, jobs: "install a=1",
			want: []string{"upgrade a-2-1.noarch a-1-1.noarch"}},
		{name: "falls back", available: []string{"a-2-1.noarch; requires: nothing", "a-1-1.noarch"}, jobs: "install a", want: []string{"install a-1-1.noarch"}},
		{name: "does not fall back", available: []string{"a-2-1.noarch; requires: nothing", "a-1-1.noarch"}, jobs: "install a", set: best,
			problem: []string{"nothing provides nothing needed by a-2-1.noarch", "best"}},
		{name: "reinstall", available: []string{"a-1-1.noarch"}, installed: []string{"a-1-1.noarch"}, jobs: "reinstall a", want: []string{"reinstall a-1-1.noarch"}},
		{name: "newest, though an older one obsoletes", available: []string{"a-1-1.noarch; obsoletes: e", "a-2-1.noarch"}, installed: []string{"e-1-1.noarch"}, jobs: "install a",
			want: []string{"install a-2-1.noarch"}},
		{name: "self-provided", available: []string{"a-1-1.noarch; requires: config(a) = 1; provides: config(a) = 1"}, jobs: "install a", want: []string{"install a-1-1.noarch"}},
		{name: "superfluous choice is dropped", available: []string{"a-1-1.noarch; requires: p; requires: c", "b-1-1.noarch; provides: p", "c-1-1.noarch; provides: p"},
			jobs: "install a", want: []string{"install a-1-1.noarch", "install c-1-1.noarch"}},
		{name: "backtracks", available: []string{"a-1-1.noarch; requires: p; requires: q", "b-1-1.noarch; provides: p; conflicts: q", "c-1-1.noarch; provides: p", "d-1-1.noarch; provides: q"},
			jobs: "install a", want: []string{"install a-1-1.noarch", "install c-1-1.noarch", "install d-1-1.noarch"}},
	})
}

func TestPriority(t *testing.T) {
	t.Parallel()
	a, b := pkg(t, "a-1-1.noarch"), pkg(t, "a-2-1.noarch")
	b.Priority = 1
	got, err := Solve(context.Background(), Request{Arch: "x86_64", Jobs: jobsOf(t, "install a")}, newWorld(b, a), nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"install a-1-1.noarch"}, changes(got)); diff != "" {
		t.Error(diff)
	}
}

func TestRich(t *testing.T) {
	t.Parallel()
	world := func(requires string, more ...string) []string {
		return append([]string{"a-1-1.noarch; requires: " + requires, "b-1-1.noarch", "c-1-1.noarch", "d-1-1.noarch", "e-2-1.noarch; provides: x = 1; provides: y"}, more...)
	}
	install := func(names ...string) []string {
		out := []string{"install a-1-1.noarch"}
		for _, n := range names {
			out = append(out, "install "+n+".noarch")
		}
		return out
	}
	runScenes(t, []scene{
		{name: "and", available: world("(b and c)"), jobs: "install a", want: install("b-1-1", "c-1-1")},
		{name: "or takes the first", available: world("(c or b)"), jobs: "install a", want: install("c-1-1")},
		{name: "or takes what is there", available: world("(c or b)"), jobs: "install a", installed: []string{"b-1-1.noarch"}, want: install()},
		{name: "or takes the second", available: world("(none or b)"), jobs: "install a", want: install("b-1-1")},
		{name: "or of and", available: world("((none and b) or (c and d))"), jobs: "install a", want: install("c-1-1", "d-1-1")},
		{name: "if not", available: world("(b if c)"), jobs: "install a", want: install()},
		{name: "if", available: world("(b if c)"), jobs: "install a, install c", want: install("b-1-1", "c-1-1")},
		{name: "if the guest", available: world("(b if tool)"), guest: guest{"tool = 1"}, jobs: "install a", want: install("b-1-1")},
		{name: "if else", available: world("(b if c else d)"), jobs: "install a", want: install("d-1-1")},
		{name: "if else holds", available: world("(b if c else d)"), jobs: "install a, install c", want: install("b-1-1", "c-1-1")},
		{name: "unless", available: world("(b unless c)"), jobs: "install a", want: install("b-1-1")},
		{name: "unless holds", available: world("(b unless c)"), jobs: "install a, install c", problem: []string{"(b unless c)"}},
		{name: "unless else", available: world("(b unless c else d)"), jobs: "install a, install c", want: install("c-1-1", "d-1-1")},
		{name: "with", available: world("(x with y)"), jobs: "install a", want: install("e-2-1")},
		{name: "with, not by one", available: world("(x with b)"), jobs: "install a", problem: []string{"nothing provides (x with b) needed by a-1-1.noarch"}},
		{name: "range with", available: world("(v >= 1 with v < 2)", "v-2-1.noarch", "v-1.5-1.noarch", "v-0.5-1.noarch"), jobs: "install a", want: install("v-1.5-1")},
		{name: "range of the guest", available: world("(v >= 1 with v < 2)", "v-1.5-1.noarch"), guest: guest{"v = 1.2"}, jobs: "install a", want: install()},
		{name: "without", available: world("(p without y)", "f-1-1.noarch; provides: p; provides: y", "g-1-1.noarch; provides: p"), jobs: "install a", want: install("g-1-1")},
		{name: "conflict with and", available: append(world("b"), "k-1-1.noarch; conflicts: (b and c)"), jobs: "install a, install k", want: install("b-1-1", "k-1-1")},
		{name: "conflict with and, both", available: append(world("(b and c)"), "k-1-1.noarch; conflicts: (b and c)"), jobs: "install a, install k",
			problem: []string{"k-1-1.noarch conflicts with (b and c)"}},
		{name: "too complex", available: world("(" + strings.Repeat("(b and c) or ", 9) + "(b and d))"), jobs: "install a", want: install("b-1-1", "c-1-1")},
		{name: "unreadable", available: []string{"a-1-1.noarch; requires: (b xor c)"}, jobs: "install a", problem: []string{"can not be understood: (b xor c)"}},
	})
}

func TestWeak(t *testing.T) {
	t.Parallel()
	runScenes(t, []scene{
		{name: "recommends", available: []string{"a-1-1.noarch; recommends: b", "b-1-1.noarch; requires: c", "c-1-1.noarch"}, jobs: "install a",
			want: []string{"install a-1-1.noarch", "install b-1-1.noarch", "install c-1-1.noarch"}},
		{name: "not asked for", available: []string{"a-1-1.noarch; recommends: b", "b-1-1.noarch"}, jobs: "install a", set: noWeak, want: []string{"install a-1-1.noarch"}},
		{name: "not installable", available: []string{"a-1-1.noarch; recommends: b", "b-1-1.noarch; requires: none"}, jobs: "install a", want: []string{"install a-1-1.noarch"}},
		{name: "removes nothing", available: []string{"a-1-1.noarch; recommends: b", "b-1-1.noarch; conflicts: c"}, installed: []string{"c-1-1.noarch"}, jobs: "install a",
			set: erasing, want: []string{"install a-1-1.noarch"}},
		{name: "the guest has it", available: []string{"a-1-1.noarch; recommends: b", "b-1-1.noarch"}, guest: guest{"b = 1"}, jobs: "install a", want: []string{"install a-1-1.noarch"}},
		{name: "supplements", available: []string{"a-1-1.noarch", "b-1-1.noarch; supplements: a"}, jobs: "install a", want: []string{"install a-1-1.noarch", "install b-1-1.noarch"}},
		{name: "supplements both", available: []string{"a-1-1.noarch", "b-1-1.noarch; supplements: (a and c)"}, jobs: "install a", want: []string{"install a-1-1.noarch"}},
		{name: "supplements what was there", available: []string{"a-1-1.noarch", "b-1-1.noarch; supplements: c"}, installed: []string{"c-1-1.noarch"}, jobs: "install a",
			want: []string{"install a-1-1.noarch"}},
		{name: "declined before", available: []string{"a-2-1.noarch; recommends: b", "b-1-1.noarch"}, installed: []string{"a-1-1.noarch; recommends: b"}, jobs: "upgrade a",
			want: []string{"upgrade a-1-1.noarch a-2-1.noarch"}},
		{name: "suggests pulls nothing", available: []string{"a-1-1.noarch; suggests: b", "b-1-1.noarch; enhances: a"}, jobs: "install a", want: []string{"install a-1-1.noarch"}},
	})
}

func TestUpgrade(t *testing.T) {
	t.Parallel()
	runScenes(t, []scene{
		{name: "all", available: []string{"a-2-1.noarch", "b-1-1.noarch", "c-3-1.noarch"}, installed: []string{"a-1-1.noarch", "b-1-1.noarch", "c-2-1.noarch"}, jobs: "upgrade",
			want: []string{"upgrade a-1-1.noarch a-2-1.noarch", "upgrade c-2-1.noarch c-3-1.noarch"}},
		{name: "named", available: []string{"a-2-1.noarch", "c-3-1.noarch"}, installed: []string{"a-1-1.noarch", "c-2-1.noarch"}, jobs: "upgrade a",
			want: []string{"upgrade a-1-1.noarch a-2-1.noarch"}},
		{name: "to a version", available: []string{"a-2-1.noarch", "a-3-1.noarch"}, installed: []string{"a-1-1.noarch"}, jobs: "upgrade a=2",
			want: []string{"upgrade a-1-1.noarch a-2-1.noarch"}},
		{name: "no older", available: []string{"a-1-1.noarch"}, installed: []string{"a-2-1.noarch"}, jobs: "upgrade"},
		{name: "older if allowed", available: []string{"a-1-1.noarch"}, installed: []string{"a-2-1.noarch"}, jobs: "upgrade", set: downgrade,
			want: []string{"upgrade a-2-1.noarch a-1-1.noarch"}},
		{name: "obsoleted", available: []string{"b-2-1.noarch; obsoletes: a < 2"}, installed: []string{"a-1-1.noarch"}, jobs: "upgrade",
			want: []string{"erase a-1-1.noarch b-2-1.noarch", "install b-2-1.noarch"}},
		{name: "not obsoleted", available: []string{"b-2-1.noarch; obsoletes: a < 1"}, installed: []string{"a-1-1.noarch"}, jobs: "upgrade"},
		{name: "obsoleted by an install", available: []string{"b-2-1.noarch; obsoletes: a"}, installed: []string{"a-1-1.noarch"}, jobs: "install b",
			want: []string{"erase a-1-1.noarch b-2-1.noarch", "install b-2-1.noarch"}},
		{name: "pulls a dependant along", available: []string{"a-2-1.noarch", "b-2-1.noarch; requires: a = 2"}, installed: []string{"a-1-1.noarch", "b-1-1.noarch; requires: a = 1"},
			jobs: "upgrade a", want: []string{"upgrade a-1-1.noarch a-2-1.noarch", "upgrade b-1-1.noarch b-2-1.noarch"}},
		{name: "held back by a dependant", available: []string{"a-2-1.noarch"}, installed: []string{"a-1-1.noarch", "b-1-1.noarch; requires: a = 1"}, jobs: "upgrade"},
		{name: "held back, best", available: []string{"a-2-1.noarch"}, installed: []string{"a-1-1.noarch", "b-1-1.noarch; requires: a = 1"}, jobs: "upgrade", set: best,
			problem: []string{"a-2-1.noarch", "b-1-1.noarch requires a = 1", "b-1-1.noarch is installed and must not go"}},
		{name: "keeps the publisher", available: []string{"alice:a-2-1.noarch", "bob:a-3-1.noarch"}, installed: []string{"alice:a-1-1.noarch"}, jobs: "upgrade",
			want: []string{"upgrade a-1-1.noarch a-2-1.noarch"}},
		{name: "changes the publisher", available: []string{"alice:a-2-1.noarch", "bob:a-3-1.noarch"}, installed: []string{"alice:a-1-1.noarch"}, jobs: "upgrade", set: switching,
			want: []string{"upgrade a-1-1.noarch a-3-1.noarch"}},
		{name: "no obsoletes from others", available: []string{"bob:b-3-1.noarch; obsoletes: a"}, installed: []string{"alice:a-1-1.noarch"}, jobs: "upgrade"},
		{name: "others may not replace", available: []string{"bob:b-3-1.noarch; obsoletes: a"}, installed: []string{"alice:a-1-1.noarch"}, jobs: "install b", set: erasing,
			problem: []string{"b-3-1.noarch comes from bob"}},
		{name: "update for a conflict", available: []string{"a-2-1.noarch; conflicts: b < 2", "b-2-1.noarch"}, installed: []string{"b-1-1.noarch"}, jobs: "install a",
			want: []string{"install a-2-1.noarch", "upgrade b-1-1.noarch b-2-1.noarch"}},
		{name: "nothing newer", installed: []string{"a-1-1.noarch"}, jobs: "upgrade a"},
		{name: "not installed", jobs: "upgrade a", problem: []string{"a is not installed"}},
	})
}

func TestRemove(t *testing.T) {
	t.Parallel()
	chain := []string{"a-1-1.noarch", "b-1-1.noarch; requires: a", "c-1-1.noarch; requires: b", "d-1-1.noarch"}
	runScenes(t, []scene{
		{name: "leaf", installed: chain, jobs: "remove c", want: []string{"erase c-1-1.noarch"}},
		{name: "needed", installed: chain, jobs: "remove a", problem: []string{"cannot remove a-1-1.noarch", "b-1-1.noarch requires a"}},
		{name: "with dependants", installed: chain, jobs: "remove a", set: erasing,
			want: []string{"erase a-1-1.noarch", "erase b-1-1.noarch", "erase c-1-1.noarch"}, steps: []string{"c", "b", "a"}},
		{name: "the guest has it too", installed: chain, guest: guest{"a = 5"}, jobs: "remove a", want: []string{"erase a-1-1.noarch"}},
		{name: "glob", installed: chain, jobs: "remove [cd]", want: []string{"erase c-1-1.noarch", "erase d-1-1.noarch"}},
		{name: "not installed", installed: chain, jobs: "remove x", problem: []string{"x is not installed"}},
		{name: "another version", installed: chain, jobs: "remove d=2", problem: []string{"d=2"}},
		{name: "with a replacement", available: []string{"z-1-1.noarch; provides: a"}, installed: chain, jobs: "remove a, install z",
			want: []string{"erase a-1-1.noarch", "install z-1-1.noarch"}},
		{name: "broken before", installed: append(chain, "e-1-1.noarch; requires: gone"), jobs: "remove d", want: []string{"erase d-1-1.noarch"}},
	})
}

func TestRemoveAsksNobody(t *testing.T) {
	t.Parallel()
	c := scene{available: []string{"a-2-1.noarch"}, installed: []string{"a-1-1.noarch", "b-1-1.noarch; requires: a"}, jobs: "remove a"}
	_, w, err := c.solve(t)
	u, ok := IsUnsolvable(err)
	if !ok || w.lookups != 0 {
		t.Fatalf("got %v after %d lookups, want an Unsolvable after none", err, w.lookups)
	}
	if len(u.WouldRemove) != 1 || u.WouldRemove[0].Name != "b" {
		t.Errorf("WouldRemove = %v, want b", u.WouldRemove)
	}
}

func TestProblems(t *testing.T) {
	t.Parallel()
	runScenes(t, []scene{
		{name: "unknown", jobs: "install a", problem: []string{"no package is called a"}},
		{name: "unknown path", jobs: "install /usr/bin/a", problem: []string{"nothing provides /usr/bin/a"}},
		{name: "unknown pattern", jobs: "install a*", problem: []string{"no package matches a*"}},
		{name: "other versions", available: []string{"a-1-1.noarch"}, jobs: "install a>=2", problem: []string{"no version of a is a>=2: there is a-1-1.noarch"}},
		{name: "other architecture", available: []string{"a-1-1.aarch64"}, jobs: "install a", problem: []string{"a is not built for x86_64: there is a-1-1.aarch64"}},
		{name: "missing library", available: []string{"bar-1.0-1.x86_64; requires: libfoo.so.1()(64bit)"}, jobs: "install bar",
			problem: []string{"cannot install bar", "nothing provides libfoo.so.1()(64bit) needed by bar-1.0-1.x86_64"}},
		{name: "deep", available: []string{"a-1-1.noarch; requires: b", "b-1-1.noarch; requires: c", "c-1-1.noarch; requires: gone"}, jobs: "install a",
			problem: []string{"a-1-1.noarch requires b", "b-1-1.noarch requires c", "nothing provides gone needed by c-1-1.noarch"}},
		{name: "wrong version", available: []string{"c-1-1.noarch; requires: d < 2", "d-3-1.noarch"}, jobs: "install c",
			problem: []string{"c-1-1.noarch requires d < 2, but only d-3-1.noarch is there"}},
		{name: "the guest's version", available: []string{"c-1-1.noarch; requires: d < 2"}, guest: guest{"d = 3"}, jobs: "install c",
			problem: []string{"c-1-1.noarch requires d < 2, but only the guest's own d = 3 is there"}},
		{name: "conflict", available: []string{"a-1-1.noarch; conflicts: b", "b-2-1.noarch"}, jobs: "install a, install b",
			problem: []string{"a-1-1.noarch conflicts with b provided by b-2-1.noarch"}},
		{name: "conflict with the guest", available: []string{"a-1-1.noarch; conflicts: b"}, guest: guest{"b = 4"}, jobs: "install a",
			problem: []string{"a-1-1.noarch conflicts with b, which the guest has as b = 4"}},
		{name: "two versions", available: []string{"a-1-1.noarch", "a-2-1.noarch", "b-1-1.noarch; requires: a = 1"}, jobs: "install a=2, install b",
			problem: []string{"cannot install both a-1-1.noarch and a-2-1.noarch"}},
		{name: "must not go", available: []string{"a-1-1.noarch; conflicts: b"}, installed: []string{"b-1-1.noarch"}, jobs: "install a",
			problem: []string{"a-1-1.noarch conflicts with b provided by b-1-1.noarch", "b-1-1.noarch is installed and must not go"}},
		{name: "two problems", available: []string{"a-1-1.noarch; requires: x", "b-1-1.noarch; requires: y"}, jobs: "install a, install b",
			problem: []string{"nothing provides x needed by a", "nothing provides y needed by b"}},
	})
}

func TestReasons(t *testing.T) {
	t.Parallel()
	c := scene{
		available: []string{"a-1-1.noarch; requires: b; recommends: w", "b-1-1.noarch", "w-1-1.noarch", "u-2-1.noarch"},
		installed: []string{"u-1-1.noarch"},
		jobs:      "install a, upgrade",
		set:       func(r *Request) { r.Installed[0].Reason = Weak },
	}
	got, _, err := c.solve(t)
	if err != nil {
		t.Fatal(err)
	}
	reasons := map[string]string{}
	for _, item := range got.Install {
		reasons[string(item.Package.Name)] = string(item.Reason)
		if item.For != nil {
			reasons[string(item.Package.Name)] += " of " + string(item.For.Name)
		}
	}
	for _, r := range got.Upgrade {
		reasons[string(r.New.Name)] = string(r.Reason)
	}
	want := map[string]string{"a": "user", "b": "dependency of a", "w": "weak of a", "u": "weak"}
	if diff := cmp.Diff(want, reasons); diff != "" {
		t.Error(diff)
	}
}

func TestOrder(t *testing.T) {
	t.Parallel()
	runScenes(t, []scene{
		{name: "pre", available: []string{"a-1-1.noarch; pre: z", "z-1-1.noarch; requires: m", "m-1-1.noarch"}, jobs: "install a",
			want: []string{"install a-1-1.noarch", "install m-1-1.noarch", "install z-1-1.noarch"}, steps: []string{"m", "z", "a"}},
		{name: "a cycle is broken at plain requirements", available: []string{"a-1-1.noarch; pre: b", "b-1-1.noarch; requires: a"}, jobs: "install b",
			want: []string{"install a-1-1.noarch", "install b-1-1.noarch"}, steps: []string{"b", "a"}},
		{name: "a cycle of three", available: []string{"a-1-1.noarch; requires: b", "b-1-1.noarch; pre: c", "c-1-1.noarch; requires: a", "d-1-1.noarch; requires: c"}, jobs: "install d",
			want:  []string{"install a-1-1.noarch", "install b-1-1.noarch", "install c-1-1.noarch", "install d-1-1.noarch"},
			steps: []string{"a", "c", "b", "d"}},
		{name: "removals last", available: []string{"n-1-1.noarch"}, installed: []string{"o-1-1.noarch"}, jobs: "remove o, install n",
			want: []string{"erase o-1-1.noarch", "install n-1-1.noarch"}, steps: []string{"n", "o"}},
	})
}

// failing is a provider or system that does not work.
type failing struct{ err error }

func (f failing) Lookup(context.Context, []Query) ([]*Package, error) { return nil, f.err }
func (f failing) Provided(context.Context, []repo.Capability) ([]repo.Capability, error) {
	return nil, f.err
}

func TestErrorsOfOthers(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	request := Request{Arch: "x86_64", Jobs: jobsOf(t, "install a")}
	if _, err := Solve(context.Background(), request, failing{broken}, nil); !errors.Is(err, broken) {
		t.Errorf("provider: %v", err)
	}
	w := newWorld(pkg(t, "a-1-1.noarch", "requires: b"))
	if _, err := Solve(context.Background(), request, w, failing{broken}); !errors.Is(err, broken) {
		t.Errorf("system: %v", err)
	}
	if _, err := Solve(context.Background(), Request{Jobs: []Job{{Action: Install}}}, w, nil); err == nil {
		t.Error("a job without a spec was accepted")
	}
	if _, err := Solve(context.Background(), Request{Jobs: []Job{{Action: "dance", Spec: request.Jobs[0].Spec}}}, w, nil); err == nil {
		t.Error("an unknown action was accepted")
	}
}
