package program

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
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
	w := tabwriter.NewWriter(s.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(heading, "\t"))
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}

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
