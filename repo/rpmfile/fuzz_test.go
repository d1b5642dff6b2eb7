package rpmfile_test

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"stork/fixtures"
	"stork/repo"
	"stork/repo/rpmfile"
)

// FuzzBuild: no input panics, and what is accepted is a valid record and list.
func FuzzBuild(f *testing.F) {
	for _, compression := range compressions() {
		spec := sample()
		spec.Compression = compression
		f.Add(fixtures.MustRPM(f, spec))
	}
	for _, path := range fixtures.RealRPMs(f) {
		if info, err := os.Stat(path); err == nil && info.Size() < 16<<10 {
			f.Add(readFile(f, path))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		pkg, err := rpmfile.Build(bytes.NewReader(b))
		if err != nil {
			if !errors.Is(err, rpmfile.ErrMalformed) && !errors.Is(err, rpmfile.ErrUnsupported) {
				t.Fatalf("error of no kind: %v", err)
			}
			return
		}
		record, list := pkg.Record, pkg.Files
		text, object, err := list.Encode()
		if err != nil || object != record.FileList {
			t.Fatalf("the list is %+v, the record says %+v (%v)", object, record.FileList, err)
		}
		if _, err := repo.DecodeFileList(text); err != nil {
			t.Fatal(err)
		}
	})
}
