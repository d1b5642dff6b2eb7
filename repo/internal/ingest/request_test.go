package ingest

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"stork/repo"
)

func TestDecodeRequest(t *testing.T) {
	t.Parallel()
	d := repo.DigestOf([]byte("x")).String()
	object := `{"digest":"` + d + `","kind":"data","size":1}`
	limits := Limits{Objects: 2, Bytes: 100, Request: 4096}.withDefaults(1)
	tests := []struct {
		name, body string
		want       error
	}{
		{"good", `{"objects":[` + object + `],"role":"eA=="}`, nil},
		{"other order", `{"role":"eA==","objects":[]}`, nil},
		{"no role", `{"objects":[]}`, ErrBadRequest},
		{"unknown field", `{"objects":[],"role":"eA==","more":1}`, ErrBadRequest},
		{"unknown field in object", `{"objects":[{"digest":"` + d + `","kind":"data","size":1,"x":1}],"role":"eA=="}`, ErrBadRequest},
		{"objects twice", `{"objects":[],"objects":[],"role":"eA=="}`, ErrBadRequest},
		{"role twice", `{"objects":[],"role":"eA==","role":"eA=="}`, ErrBadRequest},
		{"same object twice", `{"objects":[` + object + `,` + object + `],"role":"eA=="}`, ErrBadRequest},
		{"unknown kind", `{"objects":[{"digest":"` + d + `","kind":"pack","size":1}],"role":"eA=="}`, ErrBadRequest},
		{"negative size", `{"objects":[{"digest":"` + d + `","kind":"data","size":-1}],"role":"eA=="}`, ErrBadRequest},
		{"data after it", `{"objects":[],"role":"eA=="}{}`, ErrBadRequest},
		{"no object", `[]`, ErrBadRequest},
		{"cut", `{"objects":[`, ErrBadRequest},
		{"object too large", `{"objects":[{"digest":"` + d + `","kind":"data","size":9999999999}],"role":"eA=="}`, ErrTooLarge},
		{"together too large", `{"objects":[{"digest":"` + d + `","kind":"data","size":101}],"role":"eA=="}`, ErrTooLarge},
		{"request too large", `{"role":"` + strings.Repeat("A", 5000) + `","objects":[]}`, ErrTooLarge},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := decodeRequest(strings.NewReader(test.body), limits)
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

func FuzzDecodeRequest(f *testing.F) {
	f.Add([]byte(`{"objects":[{"digest":"sha256:` + strings.Repeat("0", 63) + `1","kind":"blob","size":1}],"role":"eA=="}`))
	f.Add([]byte(`{"role":null,"objects":null}`))
	f.Add([]byte(`{"role":"","objects":[[]]}`))
	limits := Limits{Objects: 3, Bytes: 1 << 20, Request: 1 << 16}.withDefaults(1)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRequest(strings.NewReader(string(b)), limits)
		if err != nil {
			return
		}
		if len(r.objects) > limits.Objects || r.bytes > limits.Bytes || len(r.role) == 0 {
			t.Errorf("accepted %d objects of %d bytes and a role of %d", len(r.objects), r.bytes, len(r.role))
		}
	})
}

func FuzzReadMark(f *testing.F) {
	f.Add([]byte(`{"digest":"sha256:` + strings.Repeat("0", 63) + `1","format":1,"role":"p-alice","version":1}`))
	old, root := repo.DigestOf([]byte("old")), repo.DigestOf([]byte("root"))
	f.Add([]byte(`{"deltas":["` + repo.DeltaPath(old, root) + `"],"digest":"` + root.String() + `","format":1,"old_deltas":["../x"],"role":"p-alice","version":2}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMark(b)
		if err != nil {
			return
		}
		if m.Format != markFormat {
			t.Errorf("accepted format %d", m.Format)
		}
		for _, p := range slices.Concat([]string{m.Pack, m.OldPack}, m.Deltas, m.OldDeltas) {
			if p != "" && (!filepath.IsLocal(p) || !strings.HasPrefix(p, "packs/") && !strings.HasPrefix(p, "deltas/")) {
				t.Errorf("accepted the path %q, which recovery removes", p)
			}
		}
	})
}
