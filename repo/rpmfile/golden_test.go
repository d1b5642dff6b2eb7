package rpmfile_test

import (
	"bytes"
	"path/filepath"
	"testing"

	"stork/repo/rpmfile"
)

// TestGolden holds record and file list of one package to their bytes: a
// change of either gives published packages another identity, so it needs a
// new format. testdata/golden.rpm was made by rpmbuild 4.18 from the spec
// file "everything" of these tests.
func TestGolden(t *testing.T) {
	t.Parallel()
	pkg, err := rpmfile.Build(bytes.NewReader(readFile(t, filepath.Join("testdata", "golden.rpm"))))
	if err != nil {
		t.Fatal(err)
	}
	record, list := pkg.Record, pkg.Files
	recordText, _, err := record.Encode()
	if err != nil {
		t.Fatal(err)
	}
	listText, _, err := list.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string][]byte{"golden.record.json": recordText, "golden.files.json": listText} {
		if want := bytes.TrimSpace(readFile(t, filepath.Join("testdata", name))); !bytes.Equal(got, want) {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
		}
	}
}
