package program

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode"
)

// JSON writes v as indented JSON, for --json.
func (s Streams) JSON(v any) error {
	enc := json.NewEncoder(s.Out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// Table writes rows in aligned columns under a heading; nothing if there are
// no rows.
func (s Streams) Table(heading []string, rows [][]string) error {
	if len(rows) == 0 {
		return nil
	}
	out := bufio.NewWriter(s.Out) // tabwriter writes every cell by itself
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(heading, "\t"))
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = Line(cell)
		}
		fmt.Fprintln(w, strings.TrimRight(strings.Join(cells, "\t"), "\t"))
	}
	return errors.Join(w.Flush(), out.Flush())
}

// Text returns s as it may be shown on a terminal: what packages, nests and
// repositories say may hold escape sequences, and must not steer anybody's
// terminal. Control and formatting characters become question marks; line
// breaks and tabs stay.
func Text(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) || unicode.Is(unicode.Zs, r) {
			return r
		}
		return '?'
	}, s)
}

// Line is Text for what must stay on one line.
func Line(s string) string { return strings.NewReplacer("\n", " ", "\t", " ").Replace(Text(s)) }

// Confirm asks a question whose default is no. Where nobody answers, because
// input is at its end, the answer is an error that names the flag.
func (s Streams) Confirm(question string) (bool, error) {
	fmt.Fprintf(s.Err, "%s [y/N] ", question)
	answer, err := bufio.NewReader(io.LimitReader(s.In, 64)).ReadString('\n')
	if err != nil && answer == "" {
		fmt.Fprintln(s.Err)
		return false, &Error{Status: Failed, Err: errors.New("nobody answered the question"), Hint: "Give -y to go on without asking."}
	}
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes", nil
}
