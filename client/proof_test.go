package client

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net/http"
	"strings"
	"testing"

	"stork/nestd/api"
	"stork/repo"
)

// framed is a stream of documents as the nest sends it.
func framed(documents ...string) string {
	var b []byte
	for _, d := range documents {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(d))), d...)
	}
	return string(b)
}

func TestProof(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("x", 200<<10)
	for _, tt := range []struct {
		what, stream string
		want         []string
		err          bool
	}{
		{what: "nothing"},
		{what: "some, one of them empty", stream: framed("one", "", big), want: []string{"one", "", big}},
		{what: "broken off in a length", stream: framed("one") + "\x00\x00", err: true},
		{what: "broken off in a document", stream: framed("one")[:6], err: true},
		{what: "an absurd length", stream: "\xff\xff\xff\xff" + big, err: true},
	} {
		n := fake(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != api.ProofRoute+repo.DigestOf(nil).Hex() {
				w.WriteHeader(http.StatusNotFound)
				return
			}
			_, _ = w.Write([]byte(tt.stream))
		})
		got, err := n.Repository(repo.DigestOf(nil)).Proof(context.Background(), repo.DigestOf(nil), nil)
		if (err != nil) != tt.err || len(got) != len(tt.want) {
			t.Errorf("%s: %d documents, %v", tt.what, len(got), err)
			continue
		}
		for i := range got {
			if string(got[i]) != tt.want[i] {
				t.Errorf("%s: document %d is %.40q", tt.what, i, got[i])
			}
		}
	}
}

func TestProofIsBounded(t *testing.T) {
	t.Parallel()
	if _, err := readDocuments(strings.NewReader(framed("123456", "123456")), 19); !errors.Is(err, errTooLarge) {
		t.Errorf("12 bytes and two lengths, allowed 19: %v", err)
	}
	if got, err := readDocuments(strings.NewReader(framed("123456", "123456")), 20); err != nil || len(got) != 2 {
		t.Errorf("12 bytes and two lengths, allowed 20: %d, %v", len(got), err)
	}
}

func FuzzReadDocuments(f *testing.F) {
	for _, seed := range []string{"", framed(""), framed("a", "bc"), framed("abc")[:5], "\xff\xff\xff\xff"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		documents, err := readDocuments(bytes.NewReader(b), 1<<20)
		if err != nil {
			return
		}
		texts := make([]string, len(documents))
		for i := range documents {
			texts[i] = string(documents[i])
		}
		if again := framed(texts...); again != string(b) {
			t.Errorf("%q was read as %q", b, texts)
		}
	})
}
