package e2e

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// jsonIs compares one value of what the last command has printed.
func jsonIs(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) == 2, "json PATH VALUE")
	got, err := lookup(ts.ReadFile("stdout"), args[0])
	if err != nil && !neg {
		ts.Fatalf("%s: %v", args[0], err)
	}
	if same := err == nil && got == args[1]; same == neg {
		ts.Fatalf("%s is %q; want (or with !, not) %q", args[0], got, args[1])
	}
}

// lookup returns the value at a path of keys and positions with dots between;
// len is the length of a list or object. Objects and lists come as JSON.
func lookup(document, path string) (string, error) {
	d := json.NewDecoder(strings.NewReader(document))
	d.UseNumber()
	var value any
	if err := d.Decode(&value); err != nil {
		return "", err
	}
	for step := range strings.SplitSeq(path, ".") {
		next, ok := into(value, step)
		if !ok {
			return "", fmt.Errorf("there is no %q", step)
		}
		value = next
	}
	switch v := value.(type) {
	case string:
		return v, nil
	case json.Number:
		return v.String(), nil
	}
	text, err := json.Marshal(value)
	return string(text), err
}

func into(value any, step string) (next any, ok bool) {
	switch v := value.(type) {
	case map[string]any:
		if step == "len" {
			return json.Number(strconv.Itoa(len(v))), true
		}
		next, ok = v[step]
		return next, ok
	case []any:
		if step == "len" {
			return json.Number(strconv.Itoa(len(v))), true
		}
		i, err := strconv.Atoi(step)
		if err != nil || i < 0 || i >= len(v) {
			return nil, false
		}
		return v[i], true
	}
	return nil, false
}

func TestLookup(t *testing.T) {
	t.Parallel()
	const document = `{"a": [{"b": "x"}, 12345678901234567890, true, null], "o": {"k": 1}}`
	for path, want := range map[string]string{
		"a.0.b": "x", "a.1": "12345678901234567890", "a.2": "true", "a.3": "null", "a.len": "4", "o.len": "1", "o": `{"k":1}`,
	} {
		if got, err := lookup(document, path); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", path, got, err, want)
		}
	}
	for _, path := range []string{"b", "a.4", "a.-1", "a.x", "a.0.b.c"} {
		if got, err := lookup(document, path); err == nil {
			t.Errorf("%s: %q, want an error", path, got)
		}
	}
}
