package swarm

import (
	"context"
	"crypto/sha1"
	"errors"
	"io"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/anacrolix/torrent/metainfo"
	"github.com/anacrolix/torrent/storage"

	"stork/nestd/internal/fetch/transfer"
	"stork/repo"
)

// noStorage is for torrents that bring none of their own: there are none.
type noStorage struct{}

// OpenTorrent implements [storage.ClientImpl].
func (noStorage) OpenTorrent(context.Context, *metainfo.Info, metainfo.Hash) (storage.TorrentImpl, error) {
	return storage.TorrentImpl{}, errors.New("torrents have storage of their own")
}

// download is a blob on its way, as the library's storage: whatever it writes
// goes into the blob, and what the blob has, through whomever, is complete.
type download struct {
	swarm *Swarm
	ctx   context.Context // of the Fetch
	job   *transfer.Job
	info  *repo.Info
	hash  repo.InfoHash

	// The library may still be writing when a torrent has been dropped. Who
	// ends a download holds open for writing, and nobody gets past it then.
	open   sync.RWMutex
	closed bool

	mu      sync.Mutex
	coming  map[int64]netip.Addr // by offset, of blocks that are about to be written
	senders []map[netip.Addr]int // by piece, since it was last found damaged: bytes
	foreign []bool               // by piece: others than peers wrote part of it
	known   []bool               // by piece: the library takes it for complete
	score   map[netip.Addr]int   // pieces that came out right, less those that did not
	last    map[netip.Addr]time.Time
	waiting map[netip.Addr]*wait
	ports   map[netip.AddrPort]uint16 // by the other end of a connection: where it listens
	failure error
}

// wait is for blocks that a peer was asked for.
type wait struct {
	blocks int
	since  time.Time // when the first was asked for, or the last one came
	choked bool      // the peer says that it will not send them now
}

func newDownload(ctx context.Context, s *Swarm, job *transfer.Job, info *repo.Info) *download {
	n := info.Count()
	return &download{
		swarm: s, ctx: ctx, job: job, info: info, hash: info.Swarm().InfoHash,
		coming: map[int64]netip.Addr{}, senders: make([]map[netip.Addr]int, n), foreign: make([]bool, n), known: make([]bool, n),
		score: map[netip.Addr]int{}, last: map[netip.Addr]time.Time{},
		waiting: map[netip.Addr]*wait{}, ports: map[netip.AddrPort]uint16{},
	}
}

// OpenTorrent implements [storage.ClientImpl].
func (d *download) OpenTorrent(context.Context, *metainfo.Info, metainfo.Hash) (storage.TorrentImpl, error) {
	return storage.TorrentImpl{
		Piece: func(p metainfo.Piece) storage.PieceImpl { return &piece{d, p.Index()} },
		Close: func() error { return nil },
	}, nil
}

// span returns where piece i lies.
func (d *download) span(i int) transfer.Range {
	length := d.info.PieceLength()
	from := int64(i) * length
	return transfer.Range{From: from, To: min(from+length, d.info.Size)}
}

// expect notes who has sent the block at an offset. The library calls it
// before it writes the block.
func (d *download) expect(offset int64, from netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.coming[offset] = from
	now := time.Now()
	d.last[from] = now
	if w := d.waiting[from]; w != nil {
		w.since = now
	}
}

// wait notes that a peer was asked for n blocks more, or fewer.
func (d *download) wait(from netip.Addr, n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.waiting[from]
	if w == nil {
		w = &wait{since: time.Now()}
		d.waiting[from] = w
	}
	if w.blocks == 0 {
		w.since = time.Now()
	}
	if w.blocks += n; w.blocks <= 0 {
		delete(d.waiting, from)
	}
}

// choke notes that a peer lets us wait, or no more.
func (d *download) choke(from netip.Addr, choked bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if w := d.waiting[from]; w != nil {
		w.choked, w.since = choked, time.Now()
	}
}

// silent returns the peers that were asked for something and send nothing.
// The library would wait for them for ever, and ask nobody else: so they have
// less time if there are others, which n peers are.
func (d *download) silent(n int) []netip.Addr {
	d.mu.Lock()
	defer d.mu.Unlock()
	patience := patience
	if n > 1 {
		patience /= 3
	}
	var list []netip.Addr
	for at, w := range d.waiting {
		limit := patience
		if w.choked {
			limit = chokedPatience
		}
		if time.Since(w.since) >= limit {
			list = append(list, at)
			delete(d.waiting, at)
		}
	}
	return list
}

// active returns how many peers have sent something of late.
func (d *download) active() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, at := range d.last {
		if time.Since(at) < 2*time.Second {
			n++
		}
	}
	return n
}

// end makes sure that the library touches the blob no more.
func (d *download) end() {
	d.open.Lock()
	defer d.open.Unlock()
	d.closed = true
}

// fail notes an error that no peer can mend.
func (d *download) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failure == nil {
		d.failure = err
	}
}

func (d *download) failed() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failure
}

// piece is one piece of a download.
type piece struct {
	download *download
	index    int
}

// ReadAt implements [io.ReaderAt].
func (p *piece) ReadAt(b []byte, offset int64) (int, error) {
	d := p.download
	d.open.RLock()
	defer d.open.RUnlock()
	if d.closed {
		return 0, os.ErrClosed
	}
	return d.job.Blob.ReadAt(b, d.span(p.index).From+offset)
}

// WriteAt implements [io.WriterAt].
func (p *piece) WriteAt(b []byte, offset int64) (int, error) {
	d := p.download
	d.open.RLock()
	defer d.open.RUnlock()
	if d.closed {
		return 0, os.ErrClosed
	}
	// The limit holds back the connection that this came from.
	if err := d.job.Pace(d.ctx, len(b)); err != nil {
		return 0, err
	}
	at := d.span(p.index).From + offset
	from := d.sender(p.index, transfer.Range{From: at, To: at + int64(len(b))})
	err := d.job.Blob.WriteAt(transfer.Source{Method: methodName, Address: from}, b, at)
	if err != nil {
		d.fail(err)
		return 0, err
	}
	return len(b), nil
}

// sender returns who has sent a block, and notes that it is part of a piece.
func (d *download) sender(index int, r transfer.Range) string {
	there := d.job.Blob.Has(r)
	d.mu.Lock()
	defer d.mu.Unlock()
	from, ok := d.coming[r.From]
	delete(d.coming, r.From)
	d.foreign[index] = d.foreign[index] || there
	if !ok {
		return ""
	}
	if d.senders[index] == nil {
		d.senders[index] = map[netip.Addr]int{}
	}
	d.senders[index][from] += int(r.Len())
	return from.String()
}

// MarkComplete implements [storage.PieceImpl].
func (p *piece) MarkComplete() error { p.mark(true); return nil }

// MarkNotComplete implements [storage.PieceImpl].
func (p *piece) MarkNotComplete() error { p.mark(false); return nil }

func (p *piece) mark(complete bool) {
	p.download.mu.Lock()
	defer p.download.mu.Unlock()
	p.download.known[p.index] = complete
}

// Completion implements [storage.PieceImpl].
func (p *piece) Completion() storage.Completion {
	has, err := p.has()
	if err != nil {
		return storage.Completion{Err: err}
	}
	p.mark(has)
	return storage.Completion{Ok: true, Complete: has}
}

func (p *piece) has() (bool, error) {
	d := p.download
	d.open.RLock()
	defer d.open.RUnlock()
	if d.closed {
		return false, os.ErrClosed
	}
	return d.job.Blob.Has(d.span(p.index)), nil
}

var errForeign = errors.New("damaged, and not by peers alone")

// SelfHash implements [storage.SelfHashing]: the blob has checked the piece
// when it became whole, and dropped it if it was damaged. An error says that
// no peer is to blame.
func (p *piece) SelfHash() (metainfo.Hash, error) {
	d := p.download
	has, err := p.has()
	if err != nil {
		return metainfo.Hash{}, err
	}
	if has {
		d.judge(p.index, true)
		return metainfo.Hash(d.info.Pieces[p.index*sha1.Size : (p.index+1)*sha1.Size]), nil
	}
	if d.judge(p.index, false) {
		return metainfo.Hash{}, errForeign
	}
	return metainfo.Hash{}, nil
}

// How long a peer may take for a block, how long if it says that others come
// first, and how long its address is not spoken with: if it takes longer, if it sent all of a damaged piece, and if it may
// have sent the damaged part. The latter is found out
// this way: while it is away, either pieces come out right, or another one is
// caught alone.
const (
	patience       = 6 * time.Second
	chokedPatience = 15 * time.Second

	banSilent  = 30 * time.Second
	banCertain = time.Hour
	banSuspect = 10 * time.Second
)

// judge settles who sent a piece that has been checked. It reports whether
// somebody else than peers took part in one that is damaged.
func (d *download) judge(index int, right bool) (foreign bool) {
	d.mu.Lock()
	senders := d.senders[index]
	foreign = d.foreign[index]
	d.senders[index], d.foreign[index] = nil, false
	worst, lowest := netip.Addr{}, 0
	for at := range senders {
		if right {
			d.score[at]++
			continue
		}
		d.score[at]--
		if !worst.IsValid() || d.score[at] < lowest {
			worst, lowest = at, d.score[at]
		}
	}
	d.mu.Unlock()
	if right || foreign || len(senders) == 0 {
		return foreign
	}
	duration := banSuspect
	if len(senders) == 1 {
		duration = banCertain
	}
	d.job.Log.Warn("peer is banned for a damaged piece", "digest", d.info.Blob, "piece", index, "peer", worst, "senders", len(senders), "for", duration)
	d.swarm.gate.ban(worst, duration)
	return false
}

// seedPiece is a piece of a file that is whole.
type seedPiece struct {
	file *io.SectionReader
}

// ReadAt implements [io.ReaderAt].
func (p seedPiece) ReadAt(b []byte, offset int64) (int, error) { return p.file.ReadAt(b, offset) }

// WriteAt implements [io.WriterAt]. Nobody writes what is whole.
func (seedPiece) WriteAt([]byte, int64) (int, error) { return 0, os.ErrPermission }

// MarkComplete implements [storage.PieceImpl].
func (seedPiece) MarkComplete() error { return nil }

// MarkNotComplete implements [storage.PieceImpl].
func (seedPiece) MarkNotComplete() error { return nil }

// Completion implements [storage.PieceImpl].
func (seedPiece) Completion() storage.Completion { return storage.Completion{Ok: true, Complete: true} }
