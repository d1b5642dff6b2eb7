package ingest_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"stork/fixtures"
	"stork/repo"
	"stork/repo/frames"
	"stork/repo/internal/check"
	"stork/repo/internal/ingest"
	"stork/repo/internal/uploadtest"
)

// framed is a package that is just large enough for frames.
func framed(t testing.TB, name string) []byte {
	t.Helper()
	return fixtures.MustRPM(t, fixtures.Spec{Name: name, Files: []fixtures.File{
		fixtures.Text("/opt/"+name+"/text", name), fixtures.Noise("/opt/"+name+"/noise", frames.MinBlob),
	}})
}

func sent(t *testing.T, w *uploadtest.World, p *uploadtest.Publisher, limits ingest.Limits, blobs ...[]byte) {
	t.Helper()
	u := p.Prepare(t, blobs...)
	if err := send(t.Context(), ingest.New(w.Home, uploadtest.Quiet(), limits, 2), u); err != nil {
		t.Fatal(err)
	}
	p.Published(u)
}

func framesIn(t *testing.T, w *uploadtest.World) []string {
	t.Helper()
	found, err := filepath.Glob(w.Home.TreePath("frames/*/*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestFrames offers frames of packages that are large enough, once for all
// publishers, the same whenever they are made, and none where the operator
// wants none.
func TestFrames(t *testing.T) {
	t.Parallel()
	w := uploadtest.NewWorld(t)
	alice, bob := w.Publisher(t, "alice"), w.Publisher(t, "bob")
	large, alone := framed(t, "large"), fixtures.MustRPM(t, fixtures.Spec{Name: "alone", Files: []fixtures.File{
		fixtures.Noise("/opt/a", frames.MinBlob), {Path: "/opt/b", Link: "a"}}})
	sent(t, w, alice, ingest.Limits{NoFrames: true}, framed(t, "unwanted"))
	if found := framesIn(t, w); len(found) != 0 {
		t.Errorf("with frames turned off there are %v", found)
	}
	sent(t, w, alice, ingest.Limits{}, large, alone, rpm(t, "small", "1.0"))
	want := w.Home.TreePath(repo.FramesPath(repo.DigestOf(large)))
	if found := framesIn(t, w); len(found) != 1 || found[0] != want {
		t.Fatalf("there are %v, want %s", found, want)
	}
	first, err := os.ReadFile(want)
	if err != nil {
		t.Fatal(err)
	}
	sent(t, w, bob, ingest.Limits{}, large)
	report, err := check.Run(t.Context(), w.Home, 2)
	if err != nil || len(report.Problems) > 0 || report.Frames != 1 {
		t.Errorf("check reports %+v, %v", report, err)
	}
	again := uploadtest.NewWorld(t)
	sent(t, again, again.Publisher(t, "alice"), ingest.Limits{}, large)
	second, err := os.ReadFile(again.Home.TreePath(repo.FramesPath(repo.DigestOf(large))))
	if err != nil || !bytes.Equal(first, second) {
		t.Errorf("the frames of a package are not the same in two repositories (%v)", err)
	}
}

// TestCheckFrames finds every way in which frames can be wrong.
func TestCheckFrames(t *testing.T) {
	t.Parallel()
	w := uploadtest.NewWorld(t)
	large := framed(t, "large")
	sent(t, w, w.Publisher(t, "alice"), ingest.Limits{}, large)
	path := w.Home.TreePath(repo.FramesPath(repo.DigestOf(large)))
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	flip := func(n int) []byte {
		b := bytes.Clone(good)
		b[n] ^= 1
		return b
	}
	for name, b := range map[string][]byte{
		"nothing": nil, "cut": good[:len(good)-1], "longer": append(bytes.Clone(good), 0), "another header": flip(0),
		"another place": flip(20), "another length": flip(23), "damaged": flip(len(good) - 1000), "no frames": good[:32],
	} {
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		if problems := checked(t, w); len(problems) != 1 {
			t.Errorf("%s: check finds %v", name, problems)
		}
	}
	if err := os.WriteFile(path, good, 0o644); err != nil {
		t.Fatal(err)
	}
	stray := filepath.Join(filepath.Dir(path), repo.DigestOf(good).Hex())
	if err := os.Rename(path, stray); err != nil {
		t.Fatal(err)
	}
	if problems := checked(t, w); len(problems) != 1 {
		t.Errorf("of frames of nothing, check finds %v", problems)
	}
}
