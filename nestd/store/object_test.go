package store

import (
	"testing"

	"stork/repo"
)

// TestIdentity holds the format: another text would make every store in the
// field store everything again.
func TestIdentity(t *testing.T) {
	t.Parallel()
	content := repo.DigestOf([]byte("hello\n"))
	tests := []struct {
		name string
		a    attributes
		text string
	}{
		{"plain", attributes{mode: 0o644, mtime: 1, content: content}, "mode 0644\nuid 0\ngid 0\nmtime 1\n"},
		{"set-uid", attributes{mode: 0o4755, mtime: 1, content: content}, "mode 4755\nuid 0\ngid 0\nmtime 1\n"},
		{"time before the epoch", attributes{mode: 0o644, mtime: -5, content: content}, "mode 0644\nuid 0\ngid 0\nmtime -5\n"},
		{"capability", attributes{mode: 0o755, mtime: 1, content: content, xattrs: map[string][]byte{"security.capability": {1, 0xab}}},
			"mode 0755\nuid 0\ngid 0\nmtime 1\nxattr security.capability 01ab\n"},
		{"size does not matter", attributes{mode: 0o644, mtime: 1, content: content, size: 6}, "mode 0644\nuid 0\ngid 0\nmtime 1\n"},
	}
	const head = "stork object 1\ncontent sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03\n"
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got, want := tt.a.identity(), repo.DigestOf([]byte(head+tt.text)); got != want {
				t.Errorf("identity %s, want %s", got, want)
			}
		})
	}
	const golden = "sha256:67fb6e3262da0ae157f23f6104317e8d6dd1a0f7a880d1aecc058084ba9361ab"
	if got := tests[0].a.identity().String(); got != golden {
		t.Errorf("identity of a plain file is %s, want %s", got, golden)
	}
}

func TestSourceOf(t *testing.T) {
	t.Parallel()
	tests := []struct{ code, source string }{
		{"/d/__pycache__/m.cpython-311.pyc", "/d/m.py"},
		{"/d/__pycache__/m.cpython-311.opt-1.pyc", "/d/m.py"},
		{"/d/__pycache__/m.pypy39.opt-2.pyc", "/d/m.py"},
		{"/d/__pycache__/a.b.cpython-311.pyc", "/d/a.b.py"},
		{"/__pycache__/m.cpython-311.pyc", "/m.py"},
		{"/d/m.pyc", "/d/m.py"},
		{"/d/m.pyo", "/d/m.py"},
		{"/d/__pycache__/m.pyc", ""},
		{"/d/__pycache__/.cpython-311.pyc", ""},
		{"/d/m.py", ""},
		{"/d/m.so", ""},
	}
	for _, tt := range tests {
		t.Run(tt.code, func(t *testing.T) {
			t.Parallel()
			if got, ok := sourceOf(tt.code); got != tt.source || ok != (tt.source != "") {
				t.Errorf("sourceOf(%q) = %q, %v, want %q", tt.code, got, ok, tt.source)
			}
		})
	}
}
