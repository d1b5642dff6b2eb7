package durable

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Slots is a document that is replaced often. Its file has two slots of the
// same size, each with one version of the document; a new version is written
// where the older one was and synced in place. That takes one sync of the data
// and no change of any metadata, a fifth of the time of [Disk.WriteFile], and
// leaves the newer version whole. After a crash the file has the old version or
// the new one, for a slot that was not written whole fails its checksum.
//
// A slot is a header of one line, then the document:
//
//	stork-slot 1 SEQUENCE LENGTH SHA-256
//
// with sequence and length in 20 decimal digits and the digest, of all that
// stands before it in the line and of the document, in hexadecimal. The higher
// sequence is the newer version. A document of no bytes says that there is none.
//
// One process writes at a time, under a lock of its own; others may read
// meanwhile. A Slots is used by one goroutine at a time.
type Slots struct {
	Disk Disk
	Path string
	Perm fs.FileMode
	Max  int64 // bytes that a document never exceeds

	known   bool  // that there is a file, and what follows
	newest  slot  // the version that was read or written last
	current int   // the slot it is in
	size    int64 // of a slot
}

// slot is what a header says.
type slot struct {
	sequence uint64
	length   int64
	sum      [sha256.Size]byte
}

const (
	slotMagic  = "stork-slot 1 "
	slotDigits = 20
	slotPrefix = len(slotMagic) + 2*(slotDigits+1)
	slotHeader = slotPrefix + 2*sha256.Size + 1
	slotUnit   = 4096 // slots begin at multiples of this, so that none shares a block with another
	slotTries  = 5    // to read while somebody writes
)

// ErrDamaged says that neither version is whole.
var ErrDamaged = errors.New("damaged: neither of its two versions is whole")

// Read returns the newest version, or [fs.ErrNotExist].
func (s *Slots) Read() ([]byte, error) {
	file, err := os.Open(s.Path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	for try := 1; ; try++ {
		document, err := s.read(file)
		switch {
		case err == nil && len(document) == 0:
			return nil, &fs.PathError{Op: "read", Path: s.Path, Err: fs.ErrNotExist}
		case errors.Is(err, ErrDamaged) && try < slotTries:
			continue // both were replaced while they were read
		case err != nil:
			return nil, &fs.PathError{Op: "read", Path: s.Path, Err: err}
		}
		return document, nil
	}
}

// read finds the newest version that is whole.
func (s *Slots) read(file *os.File) ([]byte, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	size := info.Size() / 2
	if size < slotUnit || size%slotUnit != 0 {
		return nil, ErrDamaged
	}
	var slots [2]slot
	var good [2]bool
	for i := range slots {
		if slots[i], good[i], err = readHeader(file, int64(i)*size); err != nil {
			return nil, err
		}
	}
	first := 0
	if !good[0] || good[1] && slots[1].sequence > slots[0].sequence {
		first = 1
	}
	for _, i := range []int{first, 1 - first} {
		if !good[i] || slots[i].length > min(size-int64(slotHeader), s.Max) {
			continue
		}
		document := make([]byte, slots[i].length)
		if _, err := file.ReadAt(document, int64(i)*size+int64(slotHeader)); err != nil {
			return nil, err
		}
		if slots[i].digest(document) == slots[i].sum {
			s.newest, s.current, s.size, s.known = slots[i], i, size, true
			return document, nil
		}
	}
	return nil, ErrDamaged
}

// Write replaces the document; it is durable when Write returns nil. After an
// error the file has the old version or the new one.
func (s *Slots) Write(document []byte) error { return s.write(document, true) }

// Delete says that there is no document, durably.
func (s *Slots) Delete() error {
	if there, err := s.there(); err != nil || !there {
		return err
	}
	return s.write(nil, true)
}

// Clear says that there is no document. After a crash it may be there again.
func (s *Slots) Clear() error {
	if there, err := s.there(); err != nil || !there || s.newest.length == 0 {
		return err
	}
	return s.write(nil, false)
}

// there reports whether there is a file, and reads it if that was not done.
func (s *Slots) there() (bool, error) {
	if s.known {
		return true, nil
	}
	if _, err := s.Read(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return s.known, nil // a file without a document is known too
}

func (s *Slots) write(document []byte, sync bool) error {
	if _, err := s.there(); err != nil {
		return fmt.Errorf("cannot write %s: %w", s.Path, err)
	}
	next := slot{sequence: s.newest.sequence + 1, length: int64(len(document))}
	if int64(slotHeader)+next.length > s.size {
		return s.create(document, next)
	}
	other := 1 - s.current
	if err := s.overwrite(next.encode(document), int64(other)*s.size, sync); err != nil {
		s.known = false // it may be there all the same
		return fmt.Errorf("cannot write %s: %w", s.Path, err)
	}
	s.newest, s.current = next, other
	return nil
}

// create makes the file anew, large enough for documents half as large again.
// Both slots have the document: from then on one of them is whole.
func (s *Slots) create(document []byte, next slot) error {
	s.known = false
	want := int64(slotHeader) + next.length + next.length/2
	size := (want + slotUnit - 1) / slotUnit * slotUnit
	content := make([]byte, 2*size)
	copy(content, next.encode(document))
	next.sequence++
	copy(content[size:], next.encode(document))
	if err := s.Disk.WriteFile(s.Path, content, s.Perm); err != nil {
		return err
	}
	s.newest, s.current, s.size, s.known = next, 1, size, true
	return nil
}

func (s *Slots) overwrite(text []byte, offset int64, sync bool) error {
	file, err := os.OpenFile(s.Path, os.O_WRONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	err = s.Disk.do(StepWrite, s.Path, func() error { _, err := file.WriteAt(text, offset); return err })
	if err == nil && sync {
		err = s.Disk.do(StepSync, s.Path, func() error { return unix.Fdatasync(int(file.Fd())) })
	}
	return errors.Join(err, file.Close())
}

// encode returns the header and the document.
func (v slot) encode(document []byte) []byte {
	v.sum = v.digest(document)
	text := make([]byte, 0, slotHeader+len(document))
	text = append(text, v.prefix()...)
	text = hex.AppendEncode(text, v.sum[:])
	text = append(text, '\n')
	return append(text, document...)
}

func (v slot) prefix() string {
	return fmt.Sprintf("%s%0*d %0*d ", slotMagic, slotDigits, v.sequence, slotDigits, v.length)
}

func (v slot) digest(document []byte) [sha256.Size]byte {
	h := sha256.New()
	io.WriteString(h, v.prefix()) // a hash takes everything
	h.Write(document)
	return [sha256.Size]byte(h.Sum(nil))
}

// readHeader reports whether there is a header at offset, and what it says.
func readHeader(file *os.File, offset int64) (slot, bool, error) {
	line := make([]byte, slotHeader)
	if _, err := file.ReadAt(line, offset); err != nil {
		return slot{}, false, err
	}
	v, ok := parseHeader(line)
	return v, ok, nil
}

func parseHeader(line []byte) (slot, bool) {
	fields := bytes.Split(bytes.TrimPrefix(line, []byte(slotMagic)), []byte(" "))
	if !bytes.HasPrefix(line, []byte(slotMagic)) || len(fields) != 3 {
		return slot{}, false
	}
	sequence, err := strconv.ParseUint(string(fields[0]), 10, 63)
	if err != nil {
		return slot{}, false
	}
	length, err := strconv.ParseInt(string(fields[1]), 10, 64)
	if err != nil || length < 0 {
		return slot{}, false
	}
	v := slot{sequence: sequence, length: length}
	if n, err := hex.Decode(v.sum[:], bytes.TrimSuffix(fields[2], []byte("\n"))); err != nil || n != len(v.sum) {
		return slot{}, false
	}
	return v, v.prefix() == string(line[:slotPrefix])
}
