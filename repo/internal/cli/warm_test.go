package cli_test

import (
	"bytes"
	"strings"
	"testing"

	"stork/repo"
	"stork/repo/api"
	"stork/repo/internal/uploadtest"
)

// TestWarm has a server that runs tell nests what its operator wants them to
// have.
func TestWarm(t *testing.T) {
	t.Parallel()
	w := uploadtest.NewWorldIn(t, t.TempDir())
	alice := w.Publisher(t, "alice")
	s := serve(t, w)
	u := alice.Prepare(t, rpm(t, "one", "1.0"), rpm(t, "one", "2.0"), rpm(t, "two", "1.0"))
	if _, err := s.Send(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (string, bool) {
		var out bytes.Buffer
		cmd := process(append(append([]string{"warm"}, args...), "--dir", w.Home.Dir())...)
		cmd.Stdout = &out
		err := cmd.Run()
		return out.String(), err == nil
	}
	served := func() []api.WarmPackage {
		b, err := source{&s.Client}.Fetch(t.Context(), api.WarmRoute[1:], api.MaxWarmList)
		var list api.WarmList
		if err == nil {
			err = repo.DecodeStrict(b, &list)
		}
		if err != nil {
			t.Fatal(err)
		}
		return list.Packages
	}
	if got := served(); len(got) != 0 {
		t.Errorf("%v are served before anybody said so", got)
	}
	for _, bad := range []string{"alice/three", "alice/one=3.0", "bob/one", "one"} {
		if out, ok := run(bad); ok {
			t.Errorf("%s: %s", bad, out)
		}
	}
	if out, ok := run("alice/one", "alice/two=1.0"); !ok || strings.Count(out, "alice") != 2 {
		t.Errorf("it prints %s", out)
	}
	got := served()
	if len(got) != 2 || got[0].Name != "one" || got[1].Name != "two" || got[0].Publisher != "alice" {
		t.Fatalf("%v are served", got)
	}
	if out, ok := run("alice/one=1.0"); !ok || len(served()) != 3 {
		t.Errorf("one more: %s", out)
	}
	if out, ok := run("alice/one"); !ok || len(served()) != 3 {
		t.Errorf("the same again: %s", out)
	}
	if out, ok := run("--clear", "alice/one"); !ok || len(served()) != 1 || served()[0] != got[0] {
		t.Errorf("only that one, the newest: %s", out)
	}
	if _, ok := run("--clear"); !ok || len(served()) != 0 {
		t.Errorf("%v are left", served())
	}
}
