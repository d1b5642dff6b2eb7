package nest

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"stork/repo"
	"stork/repo/delta"
	"stork/repo/index"
)

// someEntries are packages that manyEntries does not make.
func someEntries(count int) []index.Entry {
	entries := manyEntries(count)
	for i := range entries {
		entries[i].Name = repo.Name("late-" + string(entries[i].Name))
	}
	return entries
}

// deltaFrom makes the delta from an index to the newest.
func (o *origin) deltaFrom(old *index.Tree) []byte {
	o.t.Helper()
	b, err := delta.Make(context.Background(), o.docs, old, o.index)
	must(o.t, err)
	return b
}

// count counts requests for each directory of the tree.
type count struct{ data, packs, deltas atomic.Int64 }

func (c *count) watch(o *origin) {
	o.onRequest(func(_ http.ResponseWriter, r *http.Request) {
		switch dir, _, _ := strings.Cut(r.URL.Path[1:], "/"); dir {
		case "data":
			c.data.Add(1)
		case "packs":
			c.packs.Add(1)
		case "deltas":
			c.deltas.Add(1)
		}
	})
}

func (c *count) String() string {
	return fmt.Sprintf("%d documents, %d packs, %d deltas", c.data.Load(), c.packs.Load(), c.deltas.Load())
}

// TestIndexByDelta takes what is new in an index, and nothing else, also when
// the index comes to have twice as many shards.
func TestIndexByDelta(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.publishEntries(manyEntries(2000))
	o.writePack()
	n := startNest(t, o)
	refreshed(t, n)
	for step := range 3 {
		old := o.index
		late := someEntries(30)
		for i := range late {
			late[i].Version = fmt.Sprint(step)
		}
		o.publishEntries(late)
		path := repo.DeltaPath(old.Object.Digest, o.index.Object.Digest)
		o.write(path, o.deltaFrom(old))
		var c count
		c.watch(o)
		refreshed(t, n)
		if c.String() != "0 documents, 0 packs, 1 deltas" {
			t.Errorf("step %d took %s", step, &c)
		}
		o.wholeIn(n)
	}
}

// wholeIn makes sure that a nest has every document of the newest index, and
// finds what is in it.
func (o *origin) wholeIn(n *Nest) {
	o.t.Helper()
	ctx := context.Background()
	for _, list := range [][]repo.Object{{o.index.Object}, o.index.Root.Tables, o.index.Shards()} {
		for _, object := range list {
			text, err := n.State.IndexDocument(ctx, object.Digest)
			if err != nil || !bytes.Equal(text, o.docs[object.Digest]) {
				o.t.Fatalf("document %s of the index: %d bytes, %v", object.Digest.Short(), len(text), err)
			}
		}
	}
	if got := queryNames(o.t, n, o.index.Object.Digest, "package-01234"); got != 1 {
		o.t.Errorf("%d entries", got)
	}
}

// TestHostileDeltas serves deltas that are not what they should be: the index
// comes all the same, and it is the signed one.
func TestHostileDeltas(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.publishEntries(manyEntries(1800))
	o.writePack()
	old := o.index
	n := startNest(t, o)
	refreshed(t, n)
	late := someEntries(30)
	wrong, docs, err := old.Extend(t.Context(), late[:20])
	must(t, err)
	for d, text := range o.docs {
		docs[d] = text
	}
	other, err := delta.Make(t.Context(), docs, old, wrong)
	must(t, err)
	for step, c := range []struct {
		name   string
		change func([]byte) []byte
	}{
		{"another index", func([]byte) []byte { return other }},
		{"cut", func(b []byte) []byte { return b[:len(b)-1] }},
		{"a damaged shard", func(b []byte) []byte { return damage(b, 2) }},
		{"a damaged table", func(b []byte) []byte { return damage(b, 1) }},
		{"a damaged root", func(b []byte) []byte { return damage(b, 0) }},
		{"nothing", func([]byte) []byte { return nil }},
		{"more than a delta may have", func(b []byte) []byte { return append(b, make([]byte, delta.MaxSize)...) }},
	} {
		old := o.index
		for i := range late {
			late[i].Version = fmt.Sprint(step)
		}
		o.publishEntries(late)
		o.write(repo.DeltaPath(old.Object.Digest, o.index.Object.Digest), c.change(o.deltaFrom(old)))
		var counted count
		counted.watch(o)
		refreshed(t, n)
		if counted.data.Load() == 0 || counted.deltas.Load() != 1 {
			t.Errorf("%s: took %s", c.name, &counted)
		}
		o.wholeIn(n)
	}
}

// damage changes a byte in the middle of a frame.
func damage(b []byte, frame int) []byte {
	b = bytes.Clone(b)
	at := bytes.IndexByte(b, '\n') + 1
	for range frame {
		at += 4 + int(binary.BigEndian.Uint32(b[at:]))
	}
	b[at+4+int(binary.BigEndian.Uint32(b[at:]))/2] ^= 0x10
	return b
}

// TestNoDeltaToAskFor follows a first index, and a role that is signed again
// over the same one.
func TestNoDeltaToAskFor(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.publish(hello("one"))
	n := startNest(t, o)
	var c count
	c.watch(o)
	refreshed(t, n)
	if c.deltas.Load() != 0 {
		t.Errorf("with nothing to go out from: %s", &c)
	}
	o.publishEntries(nil)
	refreshed(t, n)
	if c.deltas.Load() != 0 {
		t.Errorf("with nothing new: %s", &c)
	}
}
