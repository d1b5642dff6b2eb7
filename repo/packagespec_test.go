package repo

import "testing"

func TestPackageSpec(t *testing.T) {
	t.Parallel()
	fit := func(name, evr string) func(*PackageSpec) bool {
		v, err := ParseEVR(evr)
		if err != nil {
			t.Fatal(err)
		}
		return func(s *PackageSpec) bool { return s.Fits(Name(name), v) }
	}
	for text, want := range map[string]struct {
		publisher Publisher
		fits, not func(*PackageSpec) bool
	}{
		"nginx":             {"", fit("nginx", "1.2-3"), fit("nginx2", "1.2-3")},
		"alice/nginx":       {"alice", fit("nginx", "2:1-1"), fit("alice/nginx", "1.2-3")},
		"alice/nginx=1.2":   {"alice", fit("nginx", "1.2-9"), fit("nginx", "1.3-9")},
		"nginx=1.2-3":       {"", fit("nginx", "1.2-3"), fit("nginx", "1.2-4")},
		"nginx=2:1.2-3.el9": {"", fit("nginx", "2:1.2-3.el9"), fit("nginx", "1.2-3.el9")},
		"g++=1~rc1":         {"", fit("g++", "1~rc1-1"), fit("g++", "1-1")},
	} {
		s, err := ParsePackageSpec(text)
		if err != nil || s.Text != text || s.Publisher != want.publisher || !want.fits(&s) || want.not(&s) {
			t.Errorf("%q is read as %+v, %v", text, s, err)
		}
	}
	for _, bad := range []string{"", "/", "a/", "/b", "a/b/c", "A/b", "=1", "a=", "a=1-", "a==1", "a b", "a=1:2:3", "../x"} {
		if s, err := ParsePackageSpec(bad); err == nil {
			t.Errorf("%q is read as %+v", bad, s)
		}
	}
}

func FuzzPackageSpec(f *testing.F) {
	f.Add("alice/nginx=1:1.2-3")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParsePackageSpec(text)
		if err == nil && (s.Name == "" || s.Text != text) {
			t.Errorf("%q is read as %+v", text, s)
		}
	})
}
