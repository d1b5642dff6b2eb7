package rpmfile

import (
	"encoding/binary"
	"io"
)

// xzGuard passes an xz stream through and refuses a block whose dictionary is
// larger than maxWindow: the library would allocate whatever a block asks
// for, up to 4 GiB. It follows the container (the .xz file format, version
// 1.2.1) and LZMA2's chunks just far enough to find the block headers; all
// else is left to the library.
type xzGuard struct {
	raw     io.Reader
	part    xzPart
	pending []byte // read here already, to be passed on
	pass    int64  // bytes to pass on unseen
	check   int64  // bytes of a block's check
	length  int64  // of the block's compressed data so far
}

// xzPart is what comes next in the stream.
type xzPart int

const (
	xzStreamHeader xzPart = iota
	xzBlockHeader
	xzChunk
	xzTail // index and footer
)

// Read implements [io.Reader].
func (g *xzGuard) Read(p []byte) (int, error) {
	if len(g.pending) == 0 && g.pass == 0 {
		if err := g.step(); err != nil {
			return 0, err
		}
	}
	if len(g.pending) > 0 {
		n := copy(p, g.pending)
		g.pending = g.pending[n:]
		return n, nil
	}
	n, err := g.raw.Read(p[:min(int64(len(p)), g.pass)])
	g.pass -= int64(n)
	return n, err
}

func (g *xzGuard) step() error {
	switch g.part {
	case xzStreamHeader:
		if err := g.read(12); err != nil {
			return err
		}
		// No check, CRC32, CRC64 or SHA-256: all that is defined.
		g.check = map[byte]int64{1: 4, 4: 8, 10: 32}[g.pending[7]]
		g.part = xzBlockHeader
		return nil
	case xzBlockHeader:
		return g.blockHeader()
	case xzChunk:
		return g.chunk()
	}
	g.pass = 1 << 62
	return nil
}

// read takes n more bytes into pending.
func (g *xzGuard) read(n int) error {
	have := len(g.pending)
	g.pending = append(g.pending, make([]byte, n)...)
	_, err := io.ReadFull(g.raw, g.pending[have:])
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func (g *xzGuard) blockHeader() error {
	if err := g.read(1); err != nil {
		return err
	}
	if g.pending[0] == 0 {
		g.part = xzTail
		return nil
	}
	if err := g.read(int(g.pending[0])*4 + 3); err != nil {
		return err
	}
	g.part, g.length = xzChunk, 0
	return checkBlockHeader(g.pending)
}

// checkBlockHeader reads size, flags, the two optional sizes and the filters
// of a block header: of these only LZMA2 alone is allowed.
func checkBlockHeader(b []byte) error {
	flags, rest := b[1], b[2:]
	for _, bit := range []byte{0x40, 0x80} {
		if flags&bit != 0 {
			_, n := binary.Uvarint(rest)
			if n <= 0 {
				return malformed("its payload: bad xz block header")
			}
			rest = rest[n:]
		}
	}
	if flags&3 != 0 || len(rest) < 3 || rest[0] != 0x21 || rest[1] != 1 {
		return unsupported("its payload uses xz filters other than LZMA2")
	}
	// Dictionary sizes are 2^n and 2^n + 2^(n-1), from 4 KiB (section 5.3.1).
	if bits := rest[2]; bits > 40 || int64(2|bits&1)<<(bits/2+11) > maxWindow {
		return unsupported("its payload needs an xz dictionary of over %d bytes", maxWindow)
	}
	return nil
}

// chunk reads the header of one LZMA2 chunk; control byte 0 ends the block.
func (g *xzGuard) chunk() error {
	if err := g.read(1); err != nil {
		return err
	}
	control, header := g.pending[0], 1
	switch {
	case control == 0:
		g.pass = -(g.length+1)&3 + g.check
		g.part = xzBlockHeader
		return nil
	case control >= 0xc0:
		header = 6
	case control >= 0x80:
		header = 5
	case control <= 2:
		header = 3
	default:
		return malformed("its payload: bad LZMA2 chunk")
	}
	if err := g.read(header - 1); err != nil {
		return err
	}
	size := g.pending[1:3]
	if control >= 0x80 {
		size = g.pending[3:5]
	}
	g.pass = int64(binary.BigEndian.Uint16(size)) + 1
	g.length += int64(header) + g.pass
	return nil
}
