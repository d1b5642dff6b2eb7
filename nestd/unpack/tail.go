package unpack

import (
	"bytes"
	"strings"
	"unicode"
)

// tail keeps the first bytes of what the child writes to its standard error:
// the message of a panic. It is text from a hostile source.
type tail struct{ kept bytes.Buffer }

const maxTail = 2 << 10

// Write implements [io.Writer].
func (t *tail) Write(p []byte) (int, error) {
	if room := maxTail - t.kept.Len(); room > 0 {
		t.kept.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// String returns the first line, harmless, behind a colon.
func (t *tail) String() string {
	line, _, _ := strings.Cut(t.kept.String(), "\n")
	if line == "" {
		return ""
	}
	return ": " + printable(line)
}

// printable makes text of a hostile source safe to show and to log.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
