package bench

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPlots draws figures and looks at whether every line, unit and title is
// in well-formed SVG.
func TestPlots(t *testing.T) {
	t.Parallel()
	d := &Density{Files: 10, Growth: Growth{
		InstallMS: []float64{1000, 20, 22}, PrivateBytes: []int64{60e3, 60e3, 61e3}, StoreBytes: 40e6,
		CopyMS: []float64{900, 950}, CopyDiskBytes: []int64{40e6, 40e6},
	}}
	dir := t.TempDir()
	time, disk := filepath.Join(dir, timePlot), filepath.Join(dir, diskPlot)
	if err := d.plot(time, disk); err != nil {
		t.Fatal(err)
	}
	for path, words := range map[string][]string{
		time: {"Stork", "copying", "seconds", "Installing 10 files"},
		disk: {"Stork", "copying", "MB", "Disk of 10 files"},
	} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range words {
			if !strings.Contains(string(text), word) {
				t.Errorf("%s has no %q", filepath.Base(path), word)
			}
		}
		decoder := xml.NewDecoder(strings.NewReader(string(text)))
		for err = nil; err == nil; _, err = decoder.Token() {
		}
		if !errors.Is(err, io.EOF) {
			t.Errorf("%s: %v", filepath.Base(path), err)
		}
	}
}

func TestSummed(t *testing.T) {
	t.Parallel()
	got := summed([]int64{1, 2, 3}, 10, 5)
	if len(got) != 3 || got[0] != 15 || got[1] != 35 || got[2] != 65 {
		t.Errorf("got %v", got)
	}
}
