package transfer

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"stork/repo"
)

// journal is the map of what is there of a blob, which lies behind the blob's
// own bytes in the same file until the blob is whole: then it is cut off. So a
// file that is exactly as long as its blob is whole, or was left by somebody
// else; the digest says which (rules F1 and F2 of docs/ordering.md).
//
//	8 bytes  "storkmap"
//	1 byte   version, 1
//	1 byte   s: a block has two to the power of s bytes
//	6 bytes  0
//	…        a bit for each block, the first in the lowest bit of the first byte
//
// A bit is set after its whole block is written. Nothing is synced: the file
// survives the death of the process, and what a crash of the host leaves of it
// is found out by hash.
type journal struct {
	file *os.File
	size int64 // of the blob: where the journal begins
	bits []byte
	kept bool // it is in the file
}

const (
	journalMagic  = "storkmap\x01"
	journalHeader = 16
	minBlockShift = 9
	maxBlockShift = 20
	wantedBlocks  = 8192
	blocksPerByte = 8
)

// MaxMap is the most that lies behind a blob of the spool until it is whole,
// in bytes.
const MaxMap = journalHeader + repo.MaxBlob>>maxBlockShift/blocksPerByte

func newJournal(file *os.File, size int64) *journal {
	j := &journal{file: file, size: size}
	j.bits = make([]byte, (j.blocks()+blocksPerByte-1)/blocksPerByte)
	return j
}

// shift makes blocks so small that one that is lost does not matter, and so
// few that the map is small.
func (j *journal) shift() uint {
	shift := uint(minBlockShift)
	for shift < maxBlockShift && j.size>>shift > wantedBlocks {
		shift++
	}
	return shift
}

func (j *journal) blocks() int64 {
	block := int64(1) << j.shift()
	return (j.size + block - 1) / block
}

// length returns how many bytes the file has while the journal is in it.
func (j *journal) length() int64 { return j.size + journalHeader + int64(len(j.bits)) }

func (j *journal) header() []byte {
	b := make([]byte, journalHeader, journalHeader+len(j.bits))
	copy(b, journalMagic)
	b[len(journalMagic)] = byte(j.shift())
	return b
}

// load reads the journal and returns the ranges that are there; none if what
// lies there is no journal of such a blob.
func (j *journal) load() ([]Range, error) {
	b := make([]byte, journalHeader+len(j.bits))
	if _, err := j.file.ReadAt(b, j.size); err != nil {
		return nil, fmt.Errorf("cannot read spool file: %w", err)
	}
	if !bytes.Equal(b[:journalHeader], j.header()) {
		return nil, nil
	}
	copy(j.bits, b[journalHeader:])
	j.kept = true
	return j.ranges(), nil
}

func (j *journal) has(block int64) bool {
	return j.bits[block/blocksPerByte]&(1<<(block%blocksPerByte)) != 0
}

// ranges joins blocks that lie beside each other.
func (j *journal) ranges() []Range {
	var ranges []Range
	shift := j.shift()
	for i := range j.blocks() {
		if !j.has(i) {
			continue
		}
		r := Range{i << shift, min((i+1)<<shift, j.size)}
		if n := len(ranges); n > 0 && ranges[n-1].To == r.From {
			ranges[n-1].To = r.To
		} else {
			ranges = append(ranges, r)
		}
	}
	return ranges
}

// keep puts the journal into the file, before the first byte of a blob that
// does not come all at once.
func (j *journal) keep() error {
	if j.kept {
		return nil
	}
	if _, err := j.file.WriteAt(append(j.header(), j.bits...), j.size); err != nil {
		return err
	}
	j.kept = true
	return nil
}

// mark notes that r has been written. Of the blocks at its ends, have says
// whether they are whole now.
func (j *journal) mark(r Range, have spans) error {
	shift := j.shift()
	first, last := r.From>>shift, (r.To-1)>>shift
	return j.change(first, last, func(block int64) bool {
		inner := block > first && block < last
		return inner || have.covers(Range{block << shift, min((block+1)<<shift, j.size)})
	})
}

// clear notes that r is no longer there.
func (j *journal) clear(r Range) error {
	return j.change(r.From>>j.shift(), (r.To-1)>>j.shift(), func(int64) bool { return false })
}

// change sets blocks to what is says, and writes the bytes that changed.
func (j *journal) change(first, last int64, is func(block int64) bool) error {
	from, to := int64(-1), int64(0)
	for block := first; block <= last; block++ {
		if set := is(block); set != j.has(block) {
			j.bits[block/blocksPerByte] ^= 1 << (block % blocksPerByte)
			if from < 0 {
				from = block / blocksPerByte
			}
			to = block/blocksPerByte + 1
		}
	}
	if from < 0 || !j.kept {
		return nil
	}
	_, err := j.file.WriteAt(j.bits[from:to], j.size+journalHeader+from)
	return err
}

// cut takes the journal off a blob that is whole.
func (j *journal) cut() error {
	if !j.kept {
		return nil
	}
	j.kept = false
	return j.file.Truncate(j.size)
}

// empty takes everything out of the file.
func (j *journal) empty() error {
	clear(j.bits)
	j.kept = false
	if err := j.file.Truncate(0); err != nil {
		return err
	}
	_, err := j.file.Seek(0, io.SeekStart)
	return err
}
