package swarm

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"stork/nestd/internal/fetch/transfer"
	"stork/nestd/internal/fetch/transfer/transfertest"
	"stork/repo"
)

// peer is a seeder of the test's own making (BEP 3), good or bad. It has
// nothing in common with the library.
type peer struct {
	t     testing.TB
	text  []byte
	info  *repo.Info
	fault transfertest.Fault
	left  atomic.Int64 // bytes, until it vanishes
	sent  atomic.Int64
	at    netip.AddrPort
	l     net.Listener
}

// Messages of BEP 3.
const (
	msgUnchoke    = 1
	msgInterested = 2
	msgHave       = 4
	msgBitfield   = 5
	msgRequest    = 6
	msgPiece      = 7
)

func infoOfText(text []byte) *repo.Info {
	h := repo.NewPieceHasher(int64(len(text)))
	h.Write(text)
	return h.Info(repo.DigestOf(text))
}

func piecesOf(text []byte) *transfer.Pieces {
	if repo.PieceLength(int64(len(text))) == 0 {
		return nil
	}
	info := infoOfText(text)
	return &transfer.Pieces{Length: info.PieceLength(), Sums: info.Pieces}
}

// startPeer serves text at an address of this host until the test ends.
func startPeer(t testing.TB, host string, text []byte, fault transfertest.Fault) *peer {
	t.Helper()
	p := &peer{t: t, text: text, info: infoOfText(text), fault: fault}
	p.left.Store(int64(len(text)) * 99 / 100)
	var err error
	if p.l, err = net.Listen("tcp", net.JoinHostPort(host, "0")); err != nil {
		t.Fatal(err)
	}
	p.at = netip.MustParseAddrPort(p.l.Addr().String())
	done := make(chan struct{})
	t.Cleanup(func() { p.l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := p.l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
			go p.serve(conn)
		}
	}()
	return p
}

func message(kind byte, payload ...[]byte) []byte {
	b := []byte{0, 0, 0, 0, kind}
	for _, p := range payload {
		b = append(b, p...)
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// serve is one connection. It ends when either side has enough.
func (p *peer) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	head := make([]byte, 68)
	if _, err := io.ReadFull(in, head); err != nil || p.fault == transfertest.Absent {
		return
	}
	hash := p.info.Swarm().InfoHash
	answer := append([]byte("\x13BitTorrent protocol\x00\x00\x00\x00\x00\x00\x00\x00"), hash[:]...)
	answer = append(answer, fmt.Sprintf("-XX0000-%012d", p.at.Port())...)
	count := p.info.Count()
	field := make([]byte, (count+7)/8)
	for i := range count {
		if p.fault != transfertest.Short || i != count-1 {
			field[i/8] |= 0x80 >> (i % 8)
		}
	}
	out := append(append(answer, message(msgBitfield, field)...), message(msgUnchoke)...)
	if _, err := conn.Write(out); err != nil {
		return
	}
	until := len(p.text) / 5 // of this connection, when it is interrupted
	for {
		kind, payload, err := readMessage(in)
		if err != nil {
			return
		}
		if kind != msgRequest || len(payload) != 12 {
			continue
		}
		if !p.block(conn, payload, &until) {
			p.part(conn)
			return
		}
	}
}

// part ends a connection without a reset, which would take from the other side
// what it has not read yet.
func (p *peer) part(conn net.Conn) {
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return
	}
	if err := conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, conn) // until the other side has had enough
}

func readMessage(in io.Reader) (byte, []byte, error) {
	for {
		var size [4]byte
		if _, err := io.ReadFull(in, size[:]); err != nil {
			return 0, nil, err
		}
		n := binary.BigEndian.Uint32(size[:])
		if n == 0 {
			continue
		}
		if n > 1<<20 {
			return 0, nil, io.ErrUnexpectedEOF
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(in, b); err != nil {
			return 0, nil, err
		}
		return b[0], b[1:], nil
	}
}

// block answers a request as the fault wants it, and says whether to go on.
func (p *peer) block(conn net.Conn, request []byte, until *int) bool {
	index, begin, length := binary.BigEndian.Uint32(request), binary.BigEndian.Uint32(request[4:]), binary.BigEndian.Uint32(request[8:])
	from := int64(index)*p.info.PieceLength() + int64(begin)
	if from+int64(length) > int64(len(p.text)) {
		return false
	}
	content := p.text[from : from+int64(length)]
	switch p.fault {
	case transfertest.Slow:
		time.Sleep(time.Second * time.Duration(length) / transfertest.SlowRate)
	case transfertest.Interrupted:
		if *until -= int(length); *until < 0 {
			return false
		}
	case transfertest.Vanishing:
		if p.left.Add(-int64(length)) < 0 {
			p.l.Close()
			return false
		}
	case transfertest.Corrupt:
		content = transfertest.Content(int(length), byte(from))
	case transfertest.Drip:
		return p.drip(conn, message(msgPiece, request[:8], content))
	case transfertest.Endless:
		return p.flood(conn, message(msgPiece, request[:8], content))
	}
	n, err := conn.Write(message(msgPiece, request[:8], content))
	p.sent.Add(int64(n))
	return err == nil
}

// drip sends a byte now and then.
func (p *peer) drip(conn net.Conn, b []byte) bool {
	for i := range b {
		if _, err := conn.Write(b[i : i+1]); err != nil {
			return false
		}
		time.Sleep(50 * time.Millisecond)
	}
	return true
}

// flood sends what nobody asked for, for ever: the same block again, blocks of
// pieces that there are not, and haves without end.
func (p *peer) flood(conn net.Conn, b []byte) bool {
	for i := uint32(0); ; i++ {
		var index [8]byte
		binary.BigEndian.PutUint32(index[:], i)
		junk := append(message(msgPiece, index[:], make([]byte, 16<<10)), message(msgHave, index[:4])...)
		if _, err := conn.Write(append(junk, message(msgPiece, b[5:13], make([]byte, 16<<10))...)); err != nil {
			return false
		}
	}
}
