package repo

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// readFacts reads a file of facts about rpm, rows of its own test suite.
func readFacts(t *testing.T, name string, rows any) {
	t.Helper()
	dir := os.Getenv("STORK_TESTDATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "data")
	}
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Skipf("no facts about rpm: set STORK_TESTDATA to a folder with %s", name)
	}
	if err := json.Unmarshal(b, rows); err != nil {
		t.Fatal(err)
	}
}

func TestCompareVersionAsRPM(t *testing.T) {
	t.Parallel()
	var rows [][3]any
	readFacts(t, "rpmvercmp.json", &rows)
	for _, row := range rows {
		a, b, want := row[0].(string), row[1].(string), int(row[2].(float64))
		if got := CompareVersion(a, b); got != want {
			t.Errorf("CompareVersion(%q, %q) = %d, want %d", a, b, got, want)
		}
	}
}

func TestOverlapsAsRPM(t *testing.T) {
	t.Parallel()
	var rows [][3]json.RawMessage
	readFacts(t, "rpmdepmatch.json", &rows)
	for _, row := range rows {
		var words [2][]string
		var want int
		for i, into := range []any{&words[0], &words[1], &want} {
			if err := json.Unmarshal(row[i], into); err != nil {
				t.Fatal(err)
			}
		}
		provide, require := capabilityOf(t, words[0]), capabilityOf(t, words[1])
		if got := provide.Overlaps(require); got != (want == 1) {
			t.Errorf("%q overlaps %q: %v, want %v", provide, require, got, want == 1)
		}
		if got := require.Overlaps(provide); got != (want == 1) {
			t.Errorf("%q overlaps %q: %v, want %v", require, provide, got, want == 1)
		}
	}
}

func capabilityOf(t *testing.T, words []string) Capability {
	t.Helper()
	c := Capability{Name: words[0]}
	if len(words) == 3 {
		evr, err := ParseEVR(words[2])
		if err != nil {
			t.Fatal(err)
		}
		c.Op, c.EVR = Op(words[1]), evr
	}
	return c
}

func TestParseEVR(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text string
		want EVR
		out  string // "": as it came in
	}{
		{"1.0", EVR{Version: "1.0"}, ""},
		{"1.0-1", EVR{Version: "1.0", Release: "1"}, ""},
		{"2:1.0-1.el9", EVR{Epoch: 2, Version: "1.0", Release: "1.el9"}, ""},
		{"0:1.0-1", EVR{Version: "1.0", Release: "1"}, "1.0-1"},
		{"4294967295:1~rc1^git-1", EVR{Epoch: 4294967295, Version: "1~rc1^git", Release: "1"}, ""},
	}
	for _, tt := range tests {
		got, err := ParseEVR(tt.text)
		if err != nil || got != tt.want {
			t.Errorf("ParseEVR(%q) = %+v, %v, want %+v", tt.text, got, err, tt.want)
		}
		if tt.out == "" {
			tt.out = tt.text
		}
		if got.String() != tt.out {
			t.Errorf("%+v prints as %q, want %q", got, got, tt.out)
		}
	}
	for _, bad := range []string{"", "-1", "1-", ":1", "x:1", "-1:1", "4294967296:1", "1-1-1", "1:2:3", "1 2", "1.0\n", "1/2", "é"} {
		if got, err := ParseEVR(bad); err == nil {
			t.Errorf("ParseEVR(%q) = %+v, want an error", bad, got)
		}
	}
}

func TestCompareEVR(t *testing.T) {
	t.Parallel()
	ordered := []string{"0.9-1", "1.0~rc1-1", "1.0-1", "1.0-1.1", "1.0-2", "1.0^git1-1", "1.0.1-1", "1:0.1-1"}
	for i, a := range ordered {
		for j, b := range ordered {
			x, errX := ParseEVR(a)
			y, errY := ParseEVR(b)
			if errX != nil || errY != nil {
				t.Fatal(errX, errY)
			}
			want := min(1, max(-1, i-j))
			if got := x.Compare(y); got != want {
				t.Errorf("%s compared with %s is %d, want %d", a, b, got, want)
			}
		}
	}
}

func FuzzParseEVR(f *testing.F) {
	for _, seed := range []string{"1.0-1", "0:1", "9:1~a^b-2", "1--", ":::"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		evr, err := ParseEVR(s)
		if err != nil {
			return
		}
		again, err := ParseEVR(evr.String())
		if err != nil || again != evr || evr.Compare(again) != 0 {
			t.Errorf("%q is %+v, read again %+v, %v", s, evr, again, err)
		}
	})
}
