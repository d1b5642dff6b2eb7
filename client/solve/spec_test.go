package solve

import (
	"testing"

	"stork/repo"
)

func TestParseSpec(t *testing.T) {
	t.Parallel()
	v := func(s string) repo.EVR {
		evr, err := repo.ParseEVR(s)
		if err != nil {
			t.Fatal(err)
		}
		return evr
	}
	tests := map[string]Spec{
		"nginx":                 {Kind: NameSpec, Name: "nginx"},
		" nginx ":               {Kind: NameSpec, Name: "nginx"},
		"nginx=1.2":             {Kind: NameSpec, Name: "nginx", Op: repo.Equal, EVR: v("1.2")},
		"nginx>=1.2-3":          {Kind: NameSpec, Name: "nginx", Op: repo.GreaterEqual, EVR: v("1.2-3")},
		"nginx <= 1:1.2-3":      {Kind: NameSpec, Name: "nginx", Op: repo.LessEqual, EVR: v("1:1.2-3")},
		"nginx<2~rc1":           {Kind: NameSpec, Name: "nginx", Op: repo.Less, EVR: v("2~rc1")},
		"nginx.x86_64":          {Kind: NameSpec, Name: "nginx", Arch: "x86_64"},
		"nginx.x86_64 > 1":      {Kind: NameSpec, Name: "nginx", Arch: "x86_64", Op: repo.Greater, EVR: v("1")},
		"python3.11":            {Kind: NameSpec, Name: "python3.11"},
		"python3.11.noarch":     {Kind: NameSpec, Name: "python3.11", Arch: "noarch"},
		"libstdc++":             {Kind: NameSpec, Name: "libstdc++"},
		"lib*":                  {Kind: GlobSpec, Pattern: "lib*"},
		"lib[ab]?.noarch":       {Kind: GlobSpec, Pattern: "lib[ab]?", Arch: "noarch"},
		"/usr/bin/perl":         {Kind: PathSpec, Capability: repo.Capability{Name: "/usr/bin/perl"}},
		"/usr/bin/[":            {Kind: PathSpec, Capability: repo.Capability{Name: "/usr/bin/["}},
		"perl(A::B)":            {Kind: CapabilitySpec, Capability: repo.Capability{Name: "perl(A::B)"}},
		"perl(A::B) >= 1.5":     {Kind: CapabilitySpec, Capability: repo.Capability{Name: "perl(A::B)", Op: repo.GreaterEqual, EVR: v("1.5")}},
		"libc.so.6()(64bit)":    {Kind: CapabilitySpec, Capability: repo.Capability{Name: "libc.so.6()(64bit)"}},
		"libc.so.6(A_2)(64bit)": {Kind: CapabilitySpec, Capability: repo.Capability{Name: "libc.so.6(A_2)(64bit)"}},
	}
	for text, want := range tests {
		want.Text = text
		if got, err := ParseSpec(text); err != nil || got != want {
			t.Errorf("ParseSpec(%q) = %+v, %v, want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", " ", "a b", "=1", "a=", "a=1=2", "a>=1-2-3", "lib*=1", "lib[", "/usr/../etc", "/", "(a or b)", "a\x00", "-rf", "a/b*"} {
		if got, err := ParseSpec(text); err == nil {
			t.Errorf("ParseSpec(%q) = %+v, want an error", text, got)
		}
	}
}

func FuzzSpec(f *testing.F) {
	for _, s := range []string{"nginx", "nginx>=1.2-3", "a.noarch", "lib*", "/usr/bin/x", "cap(x) = 1", "(", "[", "<=>"} {
		f.Add(s)
	}
	p := &Package{Name: "nginx", EVR: repo.EVR{Version: "1.2", Release: "3"}, Arch: "noarch"}
	f.Fuzz(func(t *testing.T, s string) {
		spec, err := ParseSpec(s)
		if err != nil {
			return
		}
		spec.Matches(p)
		if c := spec.capability(); spec.Kind != GlobSpec && c.Name == "" {
			t.Errorf("ParseSpec(%q) = %+v names nothing", s, spec)
		}
	})
}

// FuzzRequirement holds compiling, over whatever a package may declare, to
// its bounds.
func FuzzRequirement(f *testing.F) {
	for _, s := range []string{"a", "(a or b)", "(a if b else c)", "((a and b) or (c and d))", "(a with (b or c))", "(a without b)", "(a unless (b if c))"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p := newPool("x86_64")
		for _, name := range []repo.Name{"a", "b", "c", "d"} {
			if _, err := p.add(&Package{Name: name, EVR: repo.EVR{Version: "1", Release: "1"}, Arch: "noarch"}); err != nil {
				t.Fatal(err)
			}
		}
		r, err := p.parse(s)
		if err != nil {
			return
		}
		holding, err1 := p.compile(r, false)
		failing, err2 := p.compile(r, true)
		if err1 != nil || err2 != nil {
			return
		}
		if len(holding) > maxClauses || len(failing) > maxClauses {
			t.Fatalf("%d and %d clauses", len(holding), len(failing))
		}
		for set := range 16 { // a requirement and its opposite are never both true, nor both false
			in := func(v lit) bool { return v >= firstVar && set>>(v-firstVar)&1 == 1 }
			if holds(holding, in) == holds(failing, in) {
				t.Fatalf("%q and its opposite agree for set %04b: %v, %v", s, set, holding, failing)
			}
		}
	})
}
