package policy_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"stork/repo"
	"stork/signing"
	"stork/signing/policy"
)

var (
	aliceKey = repo.DigestOf([]byte("alice"))
	bobKey   = repo.DigestOf([]byte("bob"))
	badID    = repo.DigestOf([]byte("bad build"))
)

func version(t testing.TB, s string) policy.Version {
	t.Helper()
	var v policy.Version
	if err := v.UnmarshalText([]byte(s)); err != nil {
		t.Fatal(err)
	}
	return v
}

func sample(t testing.TB) *policy.Policy {
	return &policy.Policy{
		Format: policy.Format, Role: "o-alice", Offline: policy.Duration(72 * time.Hour),
		Repository: repo.DigestOf([]byte("repository")),
		Rules: []policy.Rule{
			{Action: policy.Deny, Packages: "*", IDs: []repo.Digest{badID}},
			{Action: policy.Deny, Packages: "openssl*", Versions: []policy.Version{version(t, "< 1:3.0.7-2")}},
			{Action: policy.Allow, Packages: "web-[a-m]*", Publisher: "bob", Key: bobKey, Versions: []policy.Version{version(t, ">= 2"), version(t, "< 3")}},
			{Action: policy.Deny, Packages: "*", Publisher: "bob"},
			{Action: policy.Allow, Packages: "*", Publisher: "alice", Key: aliceKey},
		},
	}
}

func TestDecide(t *testing.T) {
	t.Parallel()
	p := sample(t)
	for _, c := range []struct {
		publisher repo.Publisher
		key       repo.Digest
		name, evr string
		id        repo.Digest
		rule      int
		allowed   bool
	}{
		{"alice", aliceKey, "hello", "1-1", repo.Digest{}, 4, true},
		{"alice", bobKey, "hello", "1-1", repo.Digest{}, -1, false}, // the name alone proves nothing
		{"mallory", aliceKey, "hello", "1-1", repo.Digest{}, -1, false},
		{"alice", aliceKey, "hello", "1-1", badID, 0, false},
		{"alice", aliceKey, "openssl-libs", "1:3.0.7-1", repo.Digest{}, 1, false},
		{"alice", aliceKey, "openssl-libs", "1:3.0.7-2", repo.Digest{}, 4, true},
		{"alice", aliceKey, "openssl-libs", "3.0.8-1", repo.Digest{}, 1, false}, // no epoch is 0
		{"bob", bobKey, "web-front", "2.5-1", repo.Digest{}, 2, true},
		{"bob", bobKey, "web-front", "3-1", repo.Digest{}, 3, false},
		{"bob", bobKey, "web-server", "2.5-1", repo.Digest{}, 3, false},
		{"bob", aliceKey, "web-front", "2.5-1", repo.Digest{}, 3, false}, // deny matches bob under any key
	} {
		evr, err := repo.ParseEVR(c.evr)
		if err != nil {
			t.Fatal(err)
		}
		pkg := repo.NEVRA{Name: repo.Name(c.name), EVR: evr, Arch: "x86_64"}
		got := p.Decide(c.publisher, c.key, pkg, c.id)
		if got.Allowed != c.allowed || got.Rule != c.rule || got.Reason == "" {
			t.Errorf("%s from %s: got %+v, want rule %d, allowed %v", pkg, c.publisher, got, c.rule, c.allowed)
		}
	}
}

func TestEmptyPolicyRefusesEverything(t *testing.T) {
	t.Parallel()
	p := &policy.Policy{Format: policy.Format, Role: "o-alice", Rules: []policy.Rule{}}
	if d := p.Decide("alice", aliceKey, repo.NEVRA{Name: "x"}, badID); d.Allowed || d.Rule != -1 {
		t.Errorf("got %+v", d)
	}
}

func TestPublishers(t *testing.T) {
	t.Parallel()
	got := sample(t).Publishers()
	want := []signing.Pin{{Role: "p-bob", Digest: bobKey}, {Role: "p-alice", Digest: aliceKey}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestGolden(t *testing.T) {
	t.Parallel()
	want, err := os.ReadFile(filepath.Join("testdata", "policy.json"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := sample(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	p, err := policy.Decode(want)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := p.Encode(); err != nil || string(again) != string(want) {
		t.Errorf("encoded again: %s, %v", again, err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	key := aliceKey.String()
	for name, text := range map[string]string{
		"unknown field":     `{"format":1,"include":[],"role":"o-alice","rules":[]}`,
		"unknown format":    `{"format":2,"role":"o-alice","rules":[]}`,
		"publisher's role":  `{"format":1,"role":"p-alice","rules":[]}`,
		"no rules":          `{"format":1,"role":"o-alice","rules":null}`,
		"white space":       `{"format":1, "role":"o-alice","rules":[]}`,
		"trailing data":     `{"format":1,"role":"o-alice","rules":[]}{}`,
		"other key order":   `{"role":"o-alice","format":1,"rules":[]}`,
		"offline of years":  `{"format":1,"offline":"99999h0m0s","role":"o-alice","rules":[]}`,
		"offline negative":  `{"format":1,"offline":"-1h0m0s","role":"o-alice","rules":[]}`,
		"unknown action":    rules(`{"action":"maybe","key":"` + key + `","packages":"*","publisher":"alice"}`),
		"allow without key": rules(`{"action":"allow","packages":"*","publisher":"alice"}`),
		"allow anybody":     rules(`{"action":"allow","key":"` + key + `","packages":"*"}`),
		"key without name":  rules(`{"action":"deny","key":"` + key + `","packages":"*"}`),
		"bad pattern":       rules(`{"action":"deny","packages":"["}`),
		"empty pattern":     rules(`{"action":"deny","packages":""}`),
		"bad version":       rules(`{"action":"deny","packages":"*","versions":["1.0"]}`),
		"empty version":     rules(`{"action":"deny","packages":"*","versions":[">="]}`),
		"bad publisher":     rules(`{"action":"deny","packages":"*","publisher":"../x"}`),
		"nothing":           ``,
		"null":              `null`,
	} {
		if p, err := policy.Decode([]byte(text)); err == nil {
			t.Errorf("%s: accepted as %+v", name, p)
		} else if !strings.HasPrefix(err.Error(), "cannot decode trust policy: ") {
			t.Errorf("%s: got error %q", name, err)
		}
	}
}

func rules(rule string) string { return `{"format":1,"role":"o-alice","rules":[` + rule + `]}` }

func TestCheckOrigin(t *testing.T) {
	t.Parallel()
	p := sample(t)
	if err := p.CheckOrigin("o-alice", p.Repository); err != nil {
		t.Error(err)
	}
	if p.CheckOrigin("o-bob", p.Repository) == nil || p.CheckOrigin("o-alice", badID) == nil {
		t.Error("accepted for another role or repository")
	}
}

func FuzzDecode(f *testing.F) {
	b, err := sample(f).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)/2])
	f.Add([]byte(rules(`{"action":"deny","packages":"[a-","versions":["<> 1:1~^-2"]}`)))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := policy.Decode(b)
		if err != nil {
			return
		}
		again, err := p.Encode()
		if err != nil || string(again) != string(b) {
			t.Errorf("%q became %q (%v)", b, again, err)
		}
		for _, pin := range p.Publishers() {
			if _, err := repo.ParseRole(string(pin.Role)); err != nil || pin.Digest.IsZero() {
				t.Errorf("publisher %v", pin)
			}
		}
		if d := p.Decide("nobody-in-particular", repo.Digest{}, repo.NEVRA{Name: "x"}, repo.Digest{}); d.Allowed {
			t.Errorf("a publisher without a key is allowed by %s", b)
		}
	})
}
