package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"stork/nestd/internal/fetch/transfer"
	"stork/nestd/internal/fetch/transfer/swarm"
	"stork/repo"
)

// swarmStall is how long a swarm may bring nothing before web servers are
// asked too: long enough to be told of peers and to connect. Web servers are
// asked for nothing that peers are sending, so it need not be longer.
const swarmStall = 500 * time.Millisecond

// openSwarm has the child take part in swarms, if it shall.
func (w *worker) openSwarm(c *childConfig, spool *os.Root) (err error) {
	if !c.Config.Swarm.On() {
		return nil
	}
	at, err := netip.ParseAddrPort(c.Config.Swarm.Listen)
	if err != nil {
		return err
	}
	// A tracker believes that peers are where they announce from.
	dialer := &net.Dialer{Timeout: announceTimeout}
	if !at.Addr().IsUnspecified() {
		dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(at.Addr(), 0))
	}
	announces := &http.Client{Timeout: announceTimeout, Transport: &http.Transport{DialContext: dialer.DialContext, IdleConnTimeout: time.Minute}}
	w.swarm, err = swarm.New(swarm.Options{
		Listen: at, Networks: c.Config.Swarm.Networks, Local: c.Config.Swarm.Local, Seeds: c.Seeds,
		HTTP: announces, Upload: w.limits.Up(), Spool: spool, Crashed: c.Crashed, Log: w.log,
	})
	return err
}

const announceTimeout = 10 * time.Second

// trackerPlaces are where a swarm's trackers are told of it: the addresses
// below which they answer this nest, and the name of the swarm.
func trackerPlaces(trackers []string, info repo.Digest) []string {
	var places []string
	for _, tracker := range trackers {
		places = append(places, swarm.TrackerPlace(tracker+"/"+info.Hex()))
	}
	return places
}

// webPlaces are those of an order that web servers answer at.
func webPlaces(o transfer.Order) []string {
	return slices.DeleteFunc(slices.Clone(o.Places), swarm.Owns)
}

// serveSeeds takes note of what is kept for others: of those files, the info
// dictionaries say which are packages.
func (w *worker) serveSeeds(out http.ResponseWriter, in *http.Request) {
	var request seedsRequest
	if !decodeRequest(out, in, &request) || w.swarm == nil {
		return
	}
	sizes := make(map[repo.Digest]int64, len(request.Files))
	for _, o := range request.Files {
		sizes[o.Digest] = o.Size
	}
	for _, o := range request.Files {
		info, err := readInfo(o)
		if err != nil || sizes[info.Blob] != info.Size {
			continue // it is something else
		}
		if err := w.seed(info, o.Digest, request.Trackers); err != nil {
			w.log.Warn("package not seeded", "digest", info.Blob, "err", err)
		}
	}
}

// seed offers one package that is kept.
func (w *worker) seed(info *repo.Info, name repo.Digest, trackers []string) error {
	return w.swarm.Seed(swarm.Seed{
		Blob: info.Blob, Hash: info.Swarm().InfoHash, Places: trackerPlaces(trackers, name), Limit: w.ratio * info.Size,
		Open: func() (*repo.Info, *os.File, error) {
			info, err := readInfo(repo.Object{Digest: name})
			if err != nil {
				return nil, nil, err
			}
			file, err := openSeed(info.Blob)
			return info, file, err
		},
	})
}

var errNoInfo = errors.New("no info dictionary")

// infoBegins is how every info dictionary does, and no other document.
const infoBegins = "d6:length"

// readInfo reads a file that is kept, if it is an info dictionary.
func readInfo(o repo.Object) (*repo.Info, error) {
	if o.Size > repo.MaxInfo {
		return nil, errNoInfo
	}
	file, err := openSeed(o.Digest)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	head := make([]byte, len(infoBegins))
	if _, err := io.ReadFull(file, head); err != nil || string(head) != infoBegins {
		return nil, errNoInfo
	}
	text, err := io.ReadAll(io.LimitReader(file, repo.MaxInfo))
	if err != nil {
		return nil, err
	}
	return repo.DecodeInfo(append(head, text...))
}

// keepInfo keeps the info dictionary of a blob that is kept, so that it can be
// seeded, and tells the child of both.
func (f *Fetcher) keepInfo(o repo.Object) error {
	f.mu.Lock()
	text := f.infos[o.Digest]
	delete(f.infos, o.Digest)
	f.mu.Unlock()
	if text == nil {
		return nil
	}
	info := repo.ObjectOf(text)
	if err := f.KeepDocument(info.Digest, text); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), announceTimeout)
	defer cancel()
	return f.tellSeeds(ctx, []repo.Object{o, info})
}

// noteInfo remembers the info dictionary of a blob in the spool.
func (f *Fetcher) noteInfo(r Request, text []byte) {
	if r.Info == nil || repo.ObjectOf(text) != *r.Info || f.seeds == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.infos[r.Object.Digest] = text
}

// trackers are where the trackers of all repositories answer this nest.
func (f *Fetcher) trackers() []string {
	if !f.options.Config.Swarm.On() || f.options.Trackers == nil {
		return nil
	}
	var list []string
	for _, tracker := range f.options.Trackers() {
		list = append(list, strings.TrimSuffix(tracker, "/"))
	}
	return list
}

// tellSeeds tells the child of files that are kept.
func (f *Fetcher) tellSeeds(ctx context.Context, files []repo.Object) error {
	if !f.options.Config.Swarm.On() {
		return nil
	}
	err := f.ask(ctx, seedsRoute, seedsRequest{Trackers: f.trackers(), Files: files}, func(answer *http.Response) error {
		if answer.StatusCode != http.StatusOK {
			return errors.New(message(answer.Body))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("cannot seed: %w", err)
	}
	return nil
}

// seedsEvery is how often a child is told of all that is kept: one that has
// taken another's place knows nothing, and what it shows to trackers expires.
const seedsEvery = time.Hour

// announceSeeds tells every child of everything, until ctx ends.
func (f *Fetcher) announceSeeds(ctx context.Context) {
	if f.seeds == nil || !f.options.Config.Swarm.On() {
		return
	}
	for {
		pid := f.PID()
		files := f.seeds.list()
		if len(files) > 0 {
			if err := f.tellSeeds(ctx, files); err != nil && ctx.Err() == nil {
				f.options.Log.Warn("packages not seeded", "err", err)
			}
		}
		for begin := time.Now(); f.PID() == pid && time.Since(begin) < seedsEvery; {
			if pause(ctx, time.Second, 1) != nil {
				return
			}
		}
	}
}

// list returns what is kept.
func (s *seeds) list() []repo.Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]repo.Object, 0, len(s.files))
	for name, file := range s.files {
		digest, err := repo.ParseHex(name)
		if err == nil {
			list = append(list, repo.Object{Digest: digest, Size: file.size})
		}
	}
	return list
}
