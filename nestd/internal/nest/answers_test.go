package nest

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"stork/fixtures"
	"stork/nestd/api"
	"stork/repo"
)

// TestAnswersKept: what is answered in full is answered again without looking;
// what lacks a document is looked at again.
func TestAnswersKept(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	o := newOrigin(t)
	o.publish(hello("one"), fixtures.Spec{Name: "two"})
	n := startNest(t, o)
	refreshed(t, n)
	ask := func(index repo.Digest) *api.QueryResponse {
		t.Helper()
		response, err := n.Query(ctx, "g1", api.QueryRequest{Documents: true, Queries: []api.Query{{Index: index, Kind: api.ByName, Terms: []string{"one"}}}})
		must(t, err)
		return response
	}
	before := o.index.Object.Digest
	lacking := ask(before)
	_, err := n.Read(ctx, o.root, repo.DataPath(o.ids["one"])) // from now on the nest holds this record
	must(t, err)
	whole := ask(before)
	if len(whole.Documents) != len(lacking.Documents)+1 {
		t.Errorf("%d documents, then %d", len(lacking.Documents), len(whole.Documents))
	}
	if again := ask(before); &again.Documents[0] != &whole.Documents[0] {
		t.Error("the same was looked for again")
	}
	o.publish(hello("three"))
	refreshed(t, n)
	if other := ask(o.index.Object.Digest); &other.Documents[0] == &whole.Documents[0] {
		t.Error("another index was answered as the first")
	}
}

// TestAnswersBounded: however much is asked, what is kept stays small.
func TestAnswersBounded(t *testing.T) {
	t.Parallel()
	var a answers
	sized := func(size int) *answer {
		return &answer{response: &api.QueryResponse{Results: []api.QueryResult{{Entries: []json.RawMessage{make([]byte, size)}}}}}
	}
	huge := repo.DigestOf([]byte("huge"))
	a.keep(huge, sized(maxOneAnswer))
	if a.find(huge) != nil {
		t.Error("a huge answer is kept")
	}
	for i := range 3 * maxAnswers / (100 << 10) {
		key := repo.DigestOf([]byte(fmt.Sprint(i)))
		a.keep(key, sized(100<<10))
		if a.find(key) == nil || a.size > maxAnswers || len(a.by) > maxAnswers/(100<<10) {
			t.Fatalf("after %d: %d bytes in %d answers", i, a.size, len(a.by))
		}
	}
}
