package transaction

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"stork/client/share"
	"stork/nestd/api"
	"stork/repo"
	"stork/repo/index"
)

var update = flag.Bool("update", false, "write the golden files")

// example is a state with every field in it.
func example() *State {
	id := repo.DigestOf([]byte("a"))
	return &State{Format: stateFormat, Serial: 7, Method: share.Overlay, Merged: []repo.Digest{id}, Aliases: map[string]string{"/bin": "/usr/bin"}, Environment: &share.Environment{
		ID: repo.DigestOf([]byte("env")), Trees: []string{"/view/x", "/view/y"}, Upper: "/view/upper", Roots: []string{"/opt", "/usr"},
		Dirs: []string{"/opt/a"}, Own: []string{"/usr/lib/own"}, Links: []share.Link{{Path: "/lib", Target: "usr/lib"}},
	}, Packages: []Installed{{
		Entry: index.Entry{Name: "a", Version: "1", Release: "2", Arch: repo.NoArch, Epoch: 3, Summary: "s",
			Provides: []repo.Capability{{Name: "a", Op: repo.Equal, EVR: repo.EVR{Version: "1", Release: "2"}}},
			Requires: []string{"b"}, Record: repo.Object{Digest: id, Size: 9}},
		FileTriggers: []repo.FileTrigger{{Interpreter: []string{"/bin/sh"}, Phase: repo.FileTriggerIn, Prefixes: []string{"/usr/lib"}, Priority: 1, Script: "x"}},
		Placed: share.Placed{ID: id, Method: share.Bind,
			Mounts: []share.Mount{{Target: "/opt/a", Source: "/opt/a", Dir: true}, {Target: "/usr/bin/a", Source: "/bin/a", Own: true}},
			Dirs:   []share.Dir{{Path: "/etc/a", Mode: 0o755, User: "daemon", Group: "tty"}},
			Links:  []share.Link{{Path: "/usr/lib/l", Target: "a", Own: true}},
			Files: []share.File{{Path: "/etc/a/conf", Type: repo.Regular, Mode: 0o644, Flags: []repo.FileFlag{repo.Config},
				Digest: repo.DigestOf([]byte("conf")), Size: 4}}},
		Reason: ByDependency, Ref: api.PackageRef{ID: id, Name: "a", Publisher: "alice", Repository: repo.DigestOf([]byte("root"))},
		Scriptlets: []repo.Scriptlet{{Interpreter: []string{"/bin/sh"}, Phase: repo.PreUn, Script: "true"}},
		Time:       1e9,
		Triggers:   []repo.Trigger{{Interpreter: []string{"/bin/sh"}, On: []repo.Capability{{Name: "b"}}, Phase: repo.TriggerIn, Script: "x"}},
	}}}
}

// TestGolden holds the state file to the bytes that guests have on disk.
func TestGolden(t *testing.T) {
	t.Parallel()
	at := filepath.Join("testdata", "state.json")
	got, err := json.MarshalIndent(example(), "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(at, append(got, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(at)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)+"\n"); d != "" {
		t.Errorf("the format has changed (-want +got):\n%s", d)
	}
	back, err := decodeState(want)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(example(), back); d != "" {
		t.Errorf("read back (-want +got):\n%s", d)
	}
}

func TestOwns(t *testing.T) {
	t.Parallel()
	tests := map[string]bool{
		"/opt/a": true, "/opt/a/deep/f": true, "/opt/ab": false, "/usr/bin/a": true, "/etc/a": true,
		"/etc/a/conf": true, "/etc/a/other": false, "/usr/lib/l": false,
	}
	for path, want := range tests {
		if got := example().Owns(path); got != want {
			t.Errorf("Owns(%s) = %v, want %v", path, got, want)
		}
	}
}

func FuzzState(f *testing.F) {
	good, err := json.Marshal(example())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"format":1,"packages":[],"serial":0}`))
	f.Add([]byte(`{"format":2,"packages":[],"serial":0}`))
	f.Add([]byte(`{"environment":{"id":"sha256:00","roots":["/usr/lib"]},"format":1,"method":"tape","packages":[],"serial":0}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeState(b)
		if err != nil {
			return
		}
		again, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeState(again); err != nil {
			t.Errorf("what was read can not be read again: %v", err)
		}
		for i := range s.Packages {
			if err := s.Packages[i].Placed.Validate(); err != nil {
				t.Error(err)
			}
		}
	})
}

func FuzzJournal(f *testing.F) {
	id := repo.DigestOf([]byte("a"))
	j := journal{Format: journalFormat, Serial: 8, Add: example().Packages,
		Plan: share.Plan{Tag: "8", Method: share.Bind, Elements: []share.Element{{ID: id, Placed: example().Packages[0].Placed,
			Ops: []share.Op{{Kind: share.OpMkdir, Path: "/opt/a", Fresh: true, File: &share.File{Path: "/opt/a", Type: repo.Dir, Mode: 0o755}}}}}},
		Steps: []step{{Kind: placeStep, ID: id, Name: "a"}}}
	add := func(j journal) {
		good, err := json.Marshal(j)
		if err == nil {
			err = j.check()
		}
		if err != nil {
			f.Fatal(err)
		}
		f.Add(good)
	}
	add(j)
	choice, now := share.Overlay, example().Environment
	j.Choice, j.Replaced = &choice, []repo.Digest{id}
	j.Environments = []recipe{{ID: now.ID, Packages: []repo.Digest{id}, Aliases: map[string]string{"/bin": "/usr/bin"}, Upper: true}}
	j.Plan.Elements[0].Environment = now
	j.Plan.Elements[0].Ops = append(j.Plan.Elements[0].Ops, share.Op{Kind: share.OpSwap, Path: "/", Swap: &share.Swap{To: *now}})
	add(j)
	f.Add([]byte(`{"add":[],"format":1,"plan":{"tag":"","method":"bind","elements":null},"serial":1,"steps":[{"kind":"place","id":"","name":"","element":1}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		j := new(journal)
		if repo.DecodeStrict(b, j) != nil || j.check() != nil {
			return
		}
		// What passes can be carried out as far as its indexes go.
		for _, s := range j.Steps {
			if s.Kind != scriptStep {
				_ = j.Plan.Elements[s.Element]
			}
		}
		for i := range j.Add {
			_ = j.Plan.Elements[i].Placed
		}
	})
}
