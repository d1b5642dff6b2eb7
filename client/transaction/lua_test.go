package transaction

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"stork/client/scriptlet"
	"stork/repo"
)

// lua makes a package whose scriptlets are Lua: phase, colon, script.
func (w *world) lua(name string, scripts ...string) Package {
	w.t.Helper()
	p := w.pkg(name, "1", map[string]string{"/opt/" + name + "/f": "1"})
	for _, s := range scripts {
		phase, script, _ := strings.Cut(s, ":")
		p.Record.Scriptlets = append(p.Record.Scriptlets, repo.Scriptlet{
			Phase: repo.Phase(phase), Interpreter: []string{scriptlet.Lua}, Script: script})
	}
	return p
}

func TestLua(t *testing.T) {
	t.Parallel()
	const note = `local f = io.open("/var/log", "a") f:write("%s ", arg[2], "\n") f:close()`
	said := func(phase string) string { return phase + ":" + strings.ReplaceAll(note, "%s", phase) }
	tests := []struct {
		name, pre string
		timeout   time.Duration
		installed []string
		log       []string
		why       string
	}{
		{"runs", said("pre"), 0, []string{"a-1-1.noarch"}, []string{"pre 1", "post 1", "postun 0"}, ""},
		{"fails", `pre:error("no room", 0)`, 0, nil, nil, "%pre"},
		{"hangs", `pre:while true do end`, time.Second, nil, nil, "longer than 1s"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			a := w.lua("a", tt.pre, said("post"), said("postun"))
			g, err := Open(context.Background(), Options{Root: w.root, Hooks: w.hooks(), Output: &w.output, Timeout: tt.timeout})
			w.must(err)
			out, err := g.Run(context.Background(), Change{Install: []Package{a}})
			w.must(err)
			w.must(g.Close())
			if got := w.installed(); !slices.Equal(got, tt.installed) {
				t.Fatalf("installed %q, want %q; %s", got, tt.installed, w.output.String())
			}
			if tt.why != "" {
				var failed *scriptlet.FailedError
				if len(out.Failed) != 1 || !errors.As(out.Failed[0].Err, &failed) || !strings.Contains(failed.Error(), tt.why) {
					t.Errorf("failed %v, want %q", out.Failed, tt.why)
				}
				return
			}
			if out := w.run(Change{Remove: []repo.Digest{a.Ref.ID}}); len(out.Failed)+len(out.Warnings) > 0 {
				t.Errorf("removal: failed %v, warnings %q", out.Failed, out.Warnings)
			}
			if got := w.log(); !slices.Equal(got, tt.log) {
				t.Errorf("log %q, want %q", got, tt.log)
			}
		})
	}
}
