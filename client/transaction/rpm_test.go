package transaction

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"stork/fixtures"
	"stork/repo"
)

// witnessed is a package in both forms: rpm's and ours.
type witnessed struct {
	rpm string
	Package
}

// witness makes a package in which every scriptlet, and every trigger on the
// package named on, says that it ran, with what arguments and what input.
func (w *world) witness(name, version, on string, fileTriggers bool) witnessed {
	w.t.Helper()
	say := func(phase string) string {
		return fmt.Sprintf("echo %s-%s %s $* $(sort) >> /var/log\n", name, version, phase)
	}
	spec := fixtures.Spec{Name: name, Version: version}
	files := map[string]string{}
	for _, f := range []string{"f", "g" + version} {
		at := "/opt/" + name + "/" + f
		files[at] = version
		spec.Files = append(spec.Files, fixtures.Text(at, version))
	}
	spec.Files = append(spec.Files, fixtures.Directory("/opt/"+name))
	for _, phase := range allPhases {
		spec.Scriptlets = append(spec.Scriptlets, fixtures.Script(repo.Phase(phase), say(phase)))
	}
	for _, phase := range []repo.Phase{repo.TriggerPreIn, repo.TriggerIn, repo.TriggerUn, repo.TriggerPostUn} {
		spec.Triggers = append(spec.Triggers, repo.Trigger{Interpreter: []string{"/bin/sh"}, Phase: phase,
			On: []repo.Capability{{Name: on}}, Script: say(string(phase))})
	}
	for _, phase := range []repo.Phase{repo.FileTriggerIn, repo.FileTriggerUn, repo.FileTriggerPostUn,
		repo.TransFileTriggerIn, repo.TransFileTriggerUn, repo.TransFileTriggerPostUn} {
		for _, priority := range []uint32{1_000_000, 20_000, 5} {
			if fileTriggers {
				spec.FileTriggers = append(spec.FileTriggers, repo.FileTrigger{Interpreter: []string{"/bin/sh"}, Phase: phase,
					Prefixes: []string{"/opt"}, Priority: priority, Script: say(fmt.Sprint(phase, priority))})
			}
		}
	}
	p := witnessed{filepath.Join(w.dir, name+version+".rpm"), w.pkg(name, version, files)}
	w.must(os.WriteFile(p.rpm, fixtures.MustRPM(w.t, spec), 0o644))
	p.Record.Scriptlets, p.Record.Triggers, p.Record.FileTriggers = spec.Scriptlets, spec.Triggers, spec.FileTriggers
	return p
}

// TestAsRPM holds the order of scriptlets and triggers, their arguments and
// what file triggers read to rpm itself.
func TestAsRPM(t *testing.T) {
	t.Parallel()
	fixtures.NeedTool(t, "rpm")
	ours, theirs := newWorld(t), newWorld(t)
	holder, a1 := ours.witness("t", "1", "a", true), ours.witness("a", "1", "t", false)
	a2, z := ours.witness("a", "2", "t", false), ours.witness("z", "1", "nothing", false)
	remove := func(p ...witnessed) Change {
		var c Change
		for _, p := range p {
			c.Remove = append(c.Remove, p.Ref.ID)
		}
		return c
	}
	steps := []struct {
		rpm    []string
		change Change
	}{
		{[]string{"-i", holder.rpm}, Change{Install: []Package{holder.Package}}},
		{[]string{"-i", a1.rpm}, Change{Install: []Package{a1.Package}}},
		{[]string{"-U", a2.rpm}, upgrade(a1.Package, a2.Package)},
		{[]string{"-e", "a"}, remove(a2)},
		{[]string{"-i", a1.rpm, z.rpm}, Change{Install: []Package{z.Package, a1.Package}}},
		{[]string{"-e", "t"}, remove(holder)},
		{[]string{"-e", "a"}, remove(a1)},
		{[]string{"-e", "z"}, remove(z)},
	}
	for _, s := range steps {
		args := append([]string{"--root", theirs.root, "--nodeps", "--nosignature"}, s.rpm...)
		if out, err := exec.Command("rpm", args...).CombinedOutput(); err != nil {
			t.Fatalf("rpm %s: %v: %s", s.rpm, err, out)
		}
		if out := ours.run(s.change); len(out.Failed)+len(out.Warnings) > 0 {
			t.Fatalf("%s: failed %v, warnings %q", s.rpm, out.Failed, out.Warnings)
		}
		if d := cmp.Diff(theirs.log(), ours.log()); d != "" {
			t.Errorf("rpm %s %s (-rpm +ours):\n%s", s.rpm[0], strings.TrimPrefix(s.rpm[1], ours.dir), d)
		}
	}
	ours.installed()
}
