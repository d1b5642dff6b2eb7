package share

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"stork/repo"
)

// TestPlanFormat fixes how a journal has an exchange, and a state an
// environment.
func TestPlanFormat(t *testing.T) {
	t.Parallel()
	id := repo.DigestOf([]byte("environment"))
	env := Environment{ID: id, Trees: []string{"/run/stork/view/aa", "/run/stork/view/bb"}, Upper: "/run/stork/view/upper",
		Roots: []string{"/etc", "/usr"}, Dirs: []string{"/etc/app"}, Own: []string{"/usr/lib/same"},
		Links: []Link{{Path: "/lib64", Target: "usr/lib64"}}}
	plan := Plan{Tag: "1", Method: Overlay, Elements: []Element{{ID: id, Environment: &env, Ops: []Op{
		{Kind: OpSwap, Path: "/", Swap: &Swap{To: env, Own: []Op{{Kind: OpTake, Path: "/usr/lib/old"}}}}}}}}
	got, err := json.Marshal(plan)
	if err != nil {
		t.Fatal(err)
	}
	const coded = `{"id":"$ID","trees":["/run/stork/view/aa","/run/stork/view/bb"],"upper":"/run/stork/view/upper",` +
		`"roots":["/etc","/usr"],"dirs":["/etc/app"],"own":["/usr/lib/same"],"links":[{"path":"/lib64","target":"usr/lib64"}]}`
	want := strings.NewReplacer("$ENV", coded, "$ID", id.String()).Replace(`{"tag":"1","method":"overlay","elements":[{"id":"$ID",` +
		`"ops":[{"kind":"swap","path":"/","swap":{"from":{},"to":$ENV,"own":[{"kind":"take","path":"/usr/lib/old"}]}}],"environment":$ENV}]}`)
	if want = strings.ReplaceAll(want, "$ID", id.String()); string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	var back Plan
	if err := repo.DecodeStrict([]byte(want), &back); err != nil || !reflect.DeepEqual(back, plan) {
		t.Errorf("read back as %+v, %v", back, err)
	}
	if err := back.Validate(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Environment){
		"a root further down": func(e *Environment) { e.Roots = []string{"/usr/lib"} },
		"a relative tree":     func(e *Environment) { e.Trees = []string{"view/aa"} },
		"many trees":          func(e *Environment) { e.Trees = make([]string, maxTrees+1) },
		"a path upwards":      func(e *Environment) { e.Dirs = []string{"/usr/../etc"} },
	} {
		bad := env
		change(&bad)
		if bad.Validate() == nil {
			t.Errorf("%s is valid", name)
		}
	}
}
