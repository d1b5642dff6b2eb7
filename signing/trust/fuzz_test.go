package trust

import (
	"os"
	"path/filepath"
	"testing"

	"stork/repo"
)

// FuzzState: what is read as a trust state is what would be written.
func FuzzState(f *testing.F) {
	golden, err := os.ReadFile(filepath.Join("..", "testdata", "trust.json"))
	if err != nil {
		f.Fatal(err)
	}
	state, err := decodeState(golden)
	if err != nil {
		f.Fatal(err)
	}
	state.Memo = &Memo{Files: repo.DigestOf(golden), Until: 1, Value: []byte(`{"a":[1,"<&>"]}`)}
	recalling, err := repo.EncodeCanonical(state)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range [][]byte{golden, golden[:len(golden)/2], recalling} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		state, err := decodeState(b)
		if err != nil {
			return
		}
		again, err := repo.EncodeCanonical(state)
		if err != nil || string(again) != string(b) {
			t.Errorf("%q became %q (%v)", b, again, err)
		}
	})
}
