package transfer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"stork/repo"
)

// Blob is a spool file that several sources fill at once. Its methods may be
// called from several goroutines. A byte that is there is written by nobody
// again, unless it was found damaged and dropped.
type Blob struct {
	object repo.Object
	pieces *Pieces
	file   *os.File

	mu      sync.Mutex
	journal *journal
	have    spans
	stored  int64  // bytes in have
	checked []bool // pieces that match
	claims  []*Claim
	sources ledger
	alone   bool // see Alone
	scatter bool // see Order.Scatter
	around  func(piece int) bool
	moved   time.Time     // when pieces that are around were last coming
	changed chan struct{} // closed at the next change; nil: nobody watches
	done    chan struct{} // closed when nothing is missing
}

// left is the source of what an earlier process wrote.
var left = Source{Method: "spool"}

// openBlob opens or makes the file of an order in the spool, named by its
// digest in hexadecimal.
func openBlob(spool *os.Root, o Order) (*Blob, error) {
	if o.Object.Size < 0 || o.Object.Size > repo.MaxBlob {
		return nil, fmt.Errorf("cannot fetch a blob of %d bytes", o.Object.Size)
	}
	if o.Pieces != nil {
		if err := o.Pieces.check(o.Object.Size); err != nil {
			return nil, err
		}
	}
	file, err := spool.OpenFile(o.Object.Digest.Hex(), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, &SpoolError{err}
	}
	b := &Blob{object: o.Object, pieces: o.Pieces, scatter: o.Scatter, file: file, journal: newJournal(file, o.Object.Size)}
	b.forget()
	if err := b.resume(); err != nil {
		return nil, errors.Join(&SpoolError{err}, file.Close())
	}
	return b, nil
}

// forget is the state of an empty file. b.mu is held, or nobody else has b.
func (b *Blob) forget() {
	b.have, b.stored = nil, 0
	b.done = make(chan struct{})
	if b.sources == nil {
		b.sources = ledger{}
	}
	if b.pieces != nil {
		b.checked = make([]bool, b.pieces.count())
	}
}

// resume believes a journal, and then the pieces' hashes. A file that is as
// long as the blob may be the blob.
func (b *Blob) resume() error {
	info, err := b.file.Stat()
	if err != nil {
		return err
	}
	var there []Range
	switch info.Size() {
	case b.object.Size:
		there = []Range{{0, b.object.Size}}
	case b.journal.length():
		if there, err = b.journal.load(); err != nil {
			return err
		}
	}
	if len(there) == 0 || b.object.Size == 0 {
		if err := b.journal.empty(); err != nil {
			return err
		}
		b.finish()
		return nil
	}
	from := b.sources.of(left)
	from.spooled = true
	for _, r := range there {
		if err := b.there(r, from); err != nil {
			return err
		}
	}
	b.finish()
	return nil
}

// Size returns how many bytes the blob has.
func (b *Blob) Size() int64 { return b.object.Size }

// Stored returns how many bytes are there.
func (b *Blob) Stored() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.stored
}

// Done returns a channel that is closed when nothing is missing. Whether the
// blob is what its digest names is checked later.
func (b *Blob) Done() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.done
}

// Changed returns a channel that is closed when a claim ends, a piece is found
// right or damaged, or the blob is whole.
func (b *Blob) Changed() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.changed == nil {
		b.changed = make(chan struct{})
	}
	return b.changed
}

// change wakes those who watch. b.mu is held.
func (b *Blob) change() {
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
}

// Has reports whether all of r is there, and right as far as pieces say.
func (b *Blob) Has(r Range) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.have.covers(r)
}

// Free returns what is missing and nobody has claimed.
func (b *Blob) Free() []Range {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.free()
}

// ReadAt implements [io.ReaderAt]; what is missing reads as anything.
func (b *Blob) ReadAt(p []byte, offset int64) (int, error) {
	return io.NewSectionReader(b.file, 0, b.object.Size).ReadAt(p, offset)
}

// WriteAt takes what a source has sent of the blob, claimed or not, and
// ignores what is there already. Bytes outside of the blob are an error. A
// piece that is whole now is checked; if it is damaged it is missing again
// and the sources are blamed, see [Blob.Banned], which is no error.
func (b *Blob) WriteAt(from Source, p []byte, offset int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.write(from, p, offset)
}

// write is WriteAt; b.mu is held. To write under the lock costs little, for
// it is a copy to the page cache, and means that no two sources ever write
// the same byte.
func (b *Blob) write(from Source, p []byte, offset int64) error {
	r := Range{offset, offset + int64(len(p))}
	if offset < 0 || r.To > b.object.Size {
		return fmt.Errorf("%w: more bytes than the blob has", ErrMismatch)
	}
	sender := b.sources.of(from)
	sender.Received += r.Len()
	if r.Len() < b.object.Size && r.Len() > 0 {
		if err := b.journal.keep(); err != nil {
			return &SpoolError{err}
		}
	}
	for _, gap := range b.have.gaps(r) {
		if _, err := b.file.WriteAt(p[gap.From-offset:gap.To-offset], gap.From); err != nil {
			return &SpoolError{err}
		}
		sender.Used += gap.Len()
		if err := b.there(gap, sender); err != nil {
			return err
		}
	}
	b.finish()
	return nil
}

// there notes that r, which was missing, is in the file, and checks pieces
// that became whole. b.mu is held.
func (b *Blob) there(r Range, from *tally) error {
	b.have = b.have.add(r, from)
	b.stored += r.Len()
	if err := b.journal.mark(r, b.have); err != nil {
		return &SpoolError{err}
	}
	if b.pieces == nil {
		return nil
	}
	first, last := b.pieces.within(r)
	for i := first; i <= last; i++ {
		if err := b.checkPiece(i); err != nil {
			return err
		}
	}
	return nil
}

// checkPiece drops piece i if it is whole and damaged. b.mu is held.
func (b *Blob) checkPiece(i int) error {
	r := b.pieces.span(i, b.object.Size)
	if b.checked[i] || !b.have.covers(r) {
		return nil
	}
	content := make([]byte, r.Len())
	if _, err := b.file.ReadAt(content, r.From); err != nil {
		return &SpoolError{err}
	}
	b.change()
	if b.pieces.matches(i, content) {
		b.checked[i] = true
		return nil
	}
	return b.drop(r)
}

// finish says so when nothing is missing. b.mu is held.
func (b *Blob) finish() {
	select {
	case <-b.done:
		return
	default:
	}
	if b.stored == b.object.Size {
		close(b.done)
		b.change()
	}
}

// Banned reports whether a source has sent damaged bytes and shall not be
// asked again for this blob.
func (b *Blob) Banned(s Source) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.sources[s]
	return t != nil && t.Verdict >= banned
}

// Blame bans a source that has lied in a way which needs no hash to see, and
// drops what it has sent, but for pieces that match.
func (b *Blob) Blame(s Source) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	liar := b.sources.of(s)
	liar.Verdict = banned
	select {
	case <-b.done:
		return nil // too late: the whole is checked
	default:
	}
	for _, at := range append(spans{}, b.have...) {
		if at.from != liar {
			continue
		}
		for _, r := range b.unchecked(at.Range) {
			if err := b.drop(r); err != nil {
				return err
			}
		}
	}
	b.change()
	return nil
}

// unchecked returns the parts of r that are in no piece which matches. b.mu is
// held.
func (b *Blob) unchecked(r Range) []Range {
	if b.pieces == nil {
		return []Range{r}
	}
	var right spans
	first, last := b.pieces.within(r)
	for i := first; i <= last; i++ {
		if b.checked[i] {
			right = right.add(b.pieces.span(i, b.object.Size), nil)
		}
	}
	return right.gaps(r)
}

// drop makes r missing again, and judges who sent it. b.mu is held.
func (b *Blob) drop(r Range) error {
	if err := b.journal.keep(); err != nil {
		return &SpoolError{err}
	}
	var damaged spans
	b.have, damaged = b.have.cut(r)
	b.stored -= damaged.size()
	b.sources.blame(damaged)
	if err := b.journal.clear(r); err != nil {
		return &SpoolError{err}
	}
	return nil
}

// Alone reports that the blob was whole and damaged, and that nobody knows
// through whom: each method shall use one source at a time now, so that the
// next time it is known.
func (b *Blob) Alone() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.alone
}

// Ledger returns what each source has sent until now.
func (b *Blob) Ledger() []Entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sources.entries()
}

// received returns how many bytes came over the network.
func (b *Blob) received() (n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range b.sources {
		n += t.Received
	}
	return n
}

// verify hashes a blob of which nothing is missing and that nobody writes
// any more. If it is not what its digest names, everything is dropped, and
// whoever sent it blamed.
func (b *Blob) verify(ctx context.Context) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.journal.cut(); err != nil {
		return false, &SpoolError{err}
	}
	sum := sha256.New()
	n, err := io.Copy(sum, &contextReader{ctx, io.NewSectionReader(b.file, 0, b.object.Size+1)})
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err != nil {
		return false, &SpoolError{err}
	}
	if n == b.object.Size && repo.Digest(sum.Sum(nil)) == b.object.Digest {
		return true, nil
	}
	known := len(b.have) == 1 && !b.have[0].from.spooled
	b.sources.blame(b.have)
	b.alone = b.alone || !known
	b.forget()
	if err := b.journal.empty(); err != nil {
		return false, &SpoolError{err}
	}
	return false, nil
}

// close closes the file. What is there of the blob stays in the spool.
func (b *Blob) close() error { return b.file.Close() }

// contextReader ends a long read when nobody waits for it any more.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
