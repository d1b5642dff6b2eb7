package show

import (
	"fmt"
	"io"
	"os"

	"github.com/dustin/go-humanize"
	"golang.org/x/term"
)

// Bytes writes a size for people, in decimal units as networks and disks are
// sold.
func Bytes(n int64) string {
	if n <= 0 {
		return "nothing"
	}
	return humanize.Bytes(uint64(n))
}

// Count writes "1 package" or "3 packages".
func Count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// IsTerminal reports whether what is written to w is seen by a person at once.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
