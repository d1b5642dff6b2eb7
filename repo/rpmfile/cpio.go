package rpmfile

import (
	"bytes"
	"io"
	"strconv"
)

// cpioReader reads the archive formats that rpm writes: "new ASCII" with and
// without checksum (cpio(5): 070701, 070702), and rpm's stripped form 07070X,
// which has only the file's number in the header and so no limit on sizes.
type cpioReader struct {
	in     *stream
	offset int64 // of the next byte, for padding
}

// cpioEntry is the header of one archive entry.
type cpioEntry struct {
	stripped bool
	number   int64  // stripped: the file's place in the package's header
	name     string // else: its name
	mode     uint32
	size     int64
	sum      uint32
	summed   bool // sum is to be checked
}

const (
	cpioMagic   = 6
	cpioHeader  = 110 // magic and 13 numbers of 8 hexadecimal digits
	cpioTrailer = "TRAILER!!!"
	maxCpioName = 4096 + 2
)

// next reads the header of the next entry, behind the content and padding of
// the last. It returns io.EOF at the trailer.
func (c *cpioReader) next() (cpioEntry, error) {
	magic, err := c.take(cpioMagic)
	if err != nil {
		return cpioEntry{}, err
	}
	switch string(magic) {
	case "07070X":
		return c.strippedHeader()
	case "070701", "070702":
		return c.fullHeader(string(magic) == "070702")
	}
	return cpioEntry{}, malformed("its payload is no cpio archive that rpm writes")
}

func (c *cpioReader) strippedHeader() (cpioEntry, error) {
	b, err := c.take(8)
	if err != nil {
		return cpioEntry{}, err
	}
	number, err := parseHex(b)
	if err != nil {
		return cpioEntry{}, err
	}
	return cpioEntry{stripped: true, number: int64(number)}, c.pad()
}

func (c *cpioReader) fullHeader(summed bool) (cpioEntry, error) {
	b, err := c.take(cpioHeader - cpioMagic)
	if err != nil {
		return cpioEntry{}, err
	}
	var numbers [13]uint32
	for i := range numbers {
		if numbers[i], err = parseHex(b[8*i : 8*i+8]); err != nil {
			return cpioEntry{}, err
		}
	}
	e := cpioEntry{mode: numbers[1], size: int64(numbers[6]), sum: numbers[12], summed: summed}
	length := int(numbers[11])
	if length < 2 || length > maxCpioName {
		return cpioEntry{}, malformed("its payload has a name of %d bytes", length)
	}
	name, err := c.take(length)
	if err != nil {
		return cpioEntry{}, err
	}
	name, ok := bytes.CutSuffix(name, []byte{0})
	if !ok || bytes.IndexByte(name, 0) >= 0 {
		return cpioEntry{}, malformed("its payload has the name %q", name)
	}
	e.name = string(name)
	if err := c.pad(); err != nil {
		return cpioEntry{}, err
	}
	if e.name == cpioTrailer {
		return cpioEntry{}, io.EOF
	}
	return e, nil
}

// take reads n bytes; the archive may not end before them.
func (c *cpioReader) take(n int) ([]byte, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(c.in, b); err != nil {
		return nil, payloadError(err)
	}
	c.offset += int64(n)
	return b, nil
}

// window returns some of the content that follows, at most n bytes; n > 0.
func (c *cpioReader) window(n int64) ([]byte, error) {
	have, err := c.in.window()
	if err != nil {
		return nil, payloadError(err)
	}
	return have[:min(int64(len(have)), n)], nil
}

func (c *cpioReader) advance(n int) {
	c.in.advance(n)
	c.offset += int64(n)
}

// pad skips to the next multiple of 4.
func (c *cpioReader) pad() error {
	_, err := c.take(int(-c.offset & 3))
	return err
}

// maxPadding is how many zero bytes may follow the trailer: cpio fills up to
// a block.
const maxPadding = 64 << 10

// finish reads to the end of the archive, behind the trailer.
func (c *cpioReader) finish() error {
	padding := 0
	for {
		have, err := c.in.window()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return payloadError(err)
		}
		padding += len(have)
		if padding > maxPadding || len(bytes.Trim(have, "\x00")) > 0 {
			return malformed("data follows the end of its payload")
		}
		c.advance(len(have))
	}
}

// parseHex reads 8 hexadecimal digits.
func parseHex(b []byte) (uint32, error) {
	n, err := strconv.ParseUint(string(b), 16, 32)
	if err != nil {
		return 0, malformed("its payload has %q for a number", b)
	}
	return uint32(n), nil
}
