package signing_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"stork/repo"
	"stork/repo/durable"
	"stork/signing"
	"stork/signing/trust"
)

// memoWorld is a client that has verified something and remembers it.
type memoWorld struct {
	*world
	dir string
}

func (m *memoWorld) open() *signing.Client {
	c, err := signing.Open(signing.Options{Dir: m.dir, Root: m.repository.Root(), Now: m.now, Deferred: true})
	if err != nil {
		panic(err)
	}
	return c
}

// visit verifies what src serves and remembers value.
func (m *memoWorld) visit(t *testing.T, src signing.Source, value string) {
	t.Helper()
	c := m.open()
	s, err := c.Refresh(context.Background(), src)
	check(t, err)
	_, err = s.Lookup(context.Background(), m.publisher.Pin(), "alice/index/root")
	check(t, err)
	check(t, c.Remember(memoOf(value, s.Expires())))
	check(t, c.Keep())
}

func memoOf(value string, until time.Time) trust.Memo {
	return trust.Memo{Files: repo.DigestOf([]byte(value)), Until: until.Unix(), Value: json.RawMessage(`"` + value + `"`)}
}

func (m *memoWorld) want(t *testing.T, when, value string) {
	t.Helper()
	memo, err := m.open().Recall()
	check(t, err)
	got := ""
	if memo != nil {
		check(t, json.Unmarshal(memo.Value, &got))
	}
	if got != value {
		t.Errorf("%s: remembers %q, want %q", when, got, value)
	}
}

// TestMemo: what was verified is remembered until something newer is seen or
// it expires, whatever the clock says then.
func TestMemo(t *testing.T) {
	t.Parallel()
	m := &memoWorld{newWorld(t), tempDir(t)}
	m.want(t, "before anything", "")
	m.visit(t, m.source(), "one")
	m.want(t, "after a visit", "one")
	m.visit(t, m.source(), "one")
	m.want(t, "after the same again", "one")

	m.publish(m.publisher, target("alice/index/root", "index 2"))
	c := m.open()
	_, err := c.Refresh(context.Background(), m.source())
	check(t, err)
	m.want(t, "before a newer timestamp is recorded", "one")
	check(t, c.Keep())
	m.want(t, "after a newer timestamp", "")
	m.visit(t, m.source(), "two")
	m.want(t, "after a visit to that", "two")

	c = m.open()
	m.advance(20 * time.Minute)
	check(t, c.Seen())
	check(t, c.Keep())
	m.want(t, "after another time was recorded", "two")
	m.advance(10 * 365 * 24 * time.Hour)
	m.want(t, "years later", "")
	c = m.open()
	check(t, c.Seen())
	check(t, c.Keep())
	m.advance(-10 * 365 * 24 * time.Hour)
	m.want(t, "with the clock set back", "")
}

// TestMemoOfTwo: a process that remembers something older than what another
// has seen meanwhile leaves no memo.
func TestMemoOfTwo(t *testing.T) {
	t.Parallel()
	m := &memoWorld{newWorld(t), tempDir(t)}
	old := copyTree(t, m.tree)
	late := m.open()
	s, err := late.Refresh(context.Background(), old)
	check(t, err)
	check(t, late.Remember(memoOf("old", s.Expires())))
	m.publish(m.publisher, target("alice/index/root", "index 2"))
	m.visit(t, m.source(), "new")
	check(t, late.Keep())
	m.want(t, "after the late one", "new")
	m.visit(t, m.source(), "new")
	m.want(t, "after another visit", "new")
}

// TestMemoNeedsKeep: who records each step by itself may have been overtaken
// between them.
func TestMemoNeedsKeep(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.clientIn(tempDir(t), durable.Disk{})
	if err := c.Remember(trust.Memo{}); err == nil {
		t.Error("remembered")
	}
}
