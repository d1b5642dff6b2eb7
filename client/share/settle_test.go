package share

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCopyData: holes stay holes, and what lies between them comes along.
func TestCopyData(t *testing.T) {
	t.Parallel()
	const mega = 1 << 20
	for name, test := range map[string]struct {
		size int64
		data []int64 // where there is a megabyte of data
	}{
		"empty":        {0, nil},
		"all data":     {2 * mega, []int64{0, mega}},
		"a hole only":  {1 << 40, nil},
		"hole at last": {1 << 40, []int64{0}},
		"hole first":   {1<<40 + mega, []int64{1 << 40}},
		"in between":   {1 << 40, []int64{5 * mega, 900 * mega}},
		"odd size":     {3*mega + 7, []int64{mega}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			in, err := os.Create(filepath.Join(dir, "in"))
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			out, err := os.Create(filepath.Join(dir, "out"))
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			content := bytes.Repeat([]byte("content "), mega/8)
			for _, at := range test.data {
				if _, err := in.WriteAt(content, at); err != nil {
					t.Fatal(err)
				}
			}
			if err := in.Truncate(test.size); err != nil {
				t.Fatal(err)
			}
			if err := copyData(out, in); err != nil {
				t.Fatal(err)
			}
			var stat unix.Stat_t
			if err := unix.Fstat(int(out.Fd()), &stat); err != nil {
				t.Fatal(err)
			}
			if want := int64(len(test.data)) * mega; stat.Size != test.size || stat.Blocks*512 > want+64<<10 {
				t.Errorf("%d bytes in %d, want %d in about %d", stat.Size, stat.Blocks*512, test.size, want)
			}
			for _, at := range test.data {
				got := make([]byte, mega)
				if _, err := out.ReadAt(got, at); err != nil || !bytes.Equal(got, content) {
					t.Errorf("at %d: other content, %v", at, err)
				}
			}
		})
	}
}
