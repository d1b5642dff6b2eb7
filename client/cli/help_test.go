package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestDocumentedStatuses: help and docs/api.md list the same statuses.
func TestDocumentedStatuses(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	Run(context.Background(), []string{"--help"}, nil, &out, &out)
	docs, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(docs), "## Exit statuses of stork\n")
	if !found {
		t.Fatal("docs/api.md has no section about stork's exit statuses")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	help := strings.Join(strings.Fields(out.String()), " ")
	for status := 0; status <= 10; status++ {
		one := regexp.MustCompile(fmt.Sprintf(`\b%d [a-z][^;.]*`, status)).FindString(section)
		if one == "" || !strings.Contains(help, strings.TrimSpace(one)) {
			t.Errorf("status %d: docs say %q, help says otherwise", status, one)
		}
	}
}
