package tracker

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"stork/repo"
	"stork/repo/api"
)

// world is a tracker with its repository, and nests.
type world struct {
	t     testing.TB
	root  repo.Digest
	infos []*repo.Info
	now   time.Time
	nests map[Key]ed25519.PrivateKey
	*Tracker
}

func newWorld(t testing.TB, limits Limits) *world {
	w := &world{t: t, root: repo.DigestOf([]byte("root")), now: time.Unix(1e9, 0), nests: map[Key]ed25519.PrivateKey{}}
	for n := range 4 {
		content := bytes.Repeat([]byte{byte(n)}, repo.MinSwarm+1)
		pieces := repo.NewPieceHasher(int64(len(content)))
		pieces.Write(content)
		w.infos = append(w.infos, pieces.Info(repo.DigestOf(content)))
	}
	w.Tracker = New(Options{
		Root: w.root, Limits: limits, Now: func() time.Time { return w.now },
		Knows: func(k Key) bool { return w.nests[k] != nil },
		Info: func(d repo.Digest) (*repo.Info, error) {
			for _, info := range w.infos {
				if info.Swarm().Info == d {
					return info, nil
				}
			}
			return nil, errors.New("none")
		},
	})
	return w
}

// nest makes an approved nest and returns its token.
func (w *world) nest(n byte) api.AnnounceToken {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
	w.nests[Key(key.Public().(ed25519.PublicKey))] = key
	return api.NewAnnounceToken(key, w.root, w.now.Add(time.Hour))
}

// say is an announce; query overrides parts of a good one.
func (w *world) say(token api.AnnounceToken, info *repo.Info, from string, query ...string) string {
	w.t.Helper()
	hash := info.Swarm().InfoHash
	values := url.Values{
		"info_hash": {string(hash[:])}, "peer_id": {strings.Repeat("p", 20)}, "port": {"6881"}, "left": {"7"},
		"uploaded": {"0"}, "downloaded": {"0"}, "compact": {"1"},
	}
	for i := 0; i < len(query); i += 2 {
		values.Set(query[i], query[i+1])
	}
	return w.raw(string(token), info.Swarm().Info.Hex(), values.Encode(), from)
}

func (w *world) raw(token, info, query, from string) string {
	r := httptest.NewRequest("GET", "/announce/x/y", nil)
	r.URL.RawQuery = query
	r.RemoteAddr = from
	r.SetPathValue("token", token)
	r.SetPathValue("info", info)
	answer := httptest.NewRecorder()
	w.ServeHTTP(answer, r)
	return answer.Body.String()
}

// peersIn reads the addresses of an answer, sorted.
func peersIn(t testing.TB, answer string) []string {
	t.Helper()
	var peers []string
	for key, size := range map[string]int{"5:peers": 6, "6:peers6": 18} {
		_, rest, ok := strings.Cut(answer, key)
		if !ok {
			if size == 6 {
				t.Fatalf("the answer is %q", answer)
			}
			continue
		}
		number, rest, _ := strings.Cut(rest, ":")
		n, err := strconv.Atoi(number)
		if err != nil || n%size != 0 || n > len(rest) {
			t.Fatalf("the answer is %q", answer)
		}
		for b := []byte(rest[:n]); len(b) > 0; b = b[size:] {
			addr, _ := netip.AddrFromSlice(b[:size-2])
			peers = append(peers, netip.AddrPortFrom(addr, uint16(b[size-2])<<8|uint16(b[size-1])).String())
		}
	}
	slices.Sort(peers)
	return peers
}

func wantPeers(t testing.TB, answer string, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := peersIn(t, answer); !slices.Equal(got, want) {
		t.Errorf("peers are %q, want %q", got, want)
	}
}

func TestAnnounce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Limits{})
	a, b, c := w.nest(1), w.nest(2), w.nest(3)
	info := w.infos[0]
	wantPeers(t, w.say(a, info, "10.0.0.1:4444", "left", "0", "event", "completed"))
	answer := w.say(b, info, "10.0.0.2:4444", "port", "1000", "event", "started")
	wantPeers(t, answer, "10.0.0.1:6881")
	if want := "d8:completei1e10:incompletei1e8:intervali60e12:min intervali15e5:peers6:\x0a\x00\x00\x01\x1a\xe1e"; answer != want {
		t.Errorf("the answer is %q, want %q", answer, want)
	}
	wantPeers(t, w.say(c, info, "[2001:db8::3]:1"), "10.0.0.1:6881", "10.0.0.2:1000")
	// Who has everything hears of those who have not, also over both families.
	wantPeers(t, w.say(c, info, "[::ffff:10.0.0.3]:1"), "10.0.0.1:6881", "10.0.0.2:1000")
	wantPeers(t, w.say(a, info, "10.0.0.1:1", "left", "0"), "10.0.0.2:1000", "10.0.0.3:6881", "[2001:db8::3]:6881")
	wantPeers(t, w.say(b, w.infos[1], "10.0.0.2:1"))
	if got, want := w.Stats(), (Stats{Swarms: 2, Seeds: 1, Leechers: 3, Announces: 6}); got != want {
		t.Errorf("stats are %+v, want %+v", got, want)
	}
	wantPeers(t, w.say(b, info, "10.0.0.2:1", "event", "stopped"))
	wantPeers(t, w.say(a, info, "10.0.0.1:1", "left", "0"), "10.0.0.3:6881", "[2001:db8::3]:6881")
	if got := peersIn(t, w.say(b, info, "10.0.0.2:1", "numwant", "1")); len(got) > 2 {
		t.Errorf("one was wanted, %q came", got)
	}
	// Addresses that mean this host are for this host.
	w.say(a, w.infos[2], "127.0.0.1:1", "left", "0")
	wantPeers(t, w.say(b, w.infos[2], "10.0.0.2:1"))
	wantPeers(t, w.say(c, w.infos[2], "127.0.0.1:2"), "127.0.0.1:6881", "10.0.0.2:6881")
}

// TestExpiry: who does not come back is forgotten, and who is approved no
// more.
func TestExpiry(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Limits{})
	a, b := w.nest(1), w.nest(2)
	w.say(a, w.infos[0], "10.0.0.1:1", "left", "0")
	w.say(b, w.infos[0], "10.0.0.2:1")
	w.now = w.now.Add(3 * time.Minute)
	wantPeers(t, w.say(a, w.infos[0], "10.0.0.1:1", "left", "0")) // before anybody clears up
	w.Expire()
	if got := w.Stats(); got.Seeds != 1 || got.Leechers != 0 {
		t.Errorf("stats are %+v, want one seed", got)
	}
	w.say(b, w.infos[0], "10.0.0.2:1")
	clear(w.nests)
	w.nest(2)
	w.Expire()
	if got := w.Stats(); got.Seeds != 0 || got.Leechers != 1 || len(w.Tracker.nests) != 1 {
		t.Errorf("stats are %+v, want one leecher", got)
	}
	w.now = w.now.Add(time.Hour)
	w.Expire()
	if w.peers != 0 || w.seeds != 0 || len(w.swarms) != 0 || len(w.Tracker.nests) != 0 {
		t.Errorf("something is left: %+v", w.Stats())
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Limits{})
	good, info := w.nest(1), w.infos[0]
	stranger := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	approved := w.nests[mustKey(t, good)]
	unpublished := &repo.Info{Size: repo.MinSwarm + 1, Pieces: make([]byte, 100)}
	for name, test := range map[string]struct {
		answer, want string
	}{
		"no token":       {w.say("", info, "10.0.0.1:1"), "no announce token"},
		"garbage":        {w.say(good[:len(good)-1]+"!", info, "10.0.0.1:1"), "no announce token"},
		"stranger":       {w.say(api.NewAnnounceToken(stranger, w.root, w.now.Add(time.Hour)), info, "10.0.0.1:1"), "not approved"},
		"changed":        {w.say(good[:60]+"AAAA"+good[64:], info, "10.0.0.1:1"), "token"},
		"other root":     {w.say(api.NewAnnounceToken(approved, repo.DigestOf(nil), w.now.Add(time.Hour)), info, "10.0.0.1:1"), "not signed for this repository"},
		"expired":        {w.say(api.NewAnnounceToken(approved, w.root, w.now), info, "10.0.0.1:1"), "expired"},
		"too long":       {w.say(api.NewAnnounceToken(approved, w.root, w.now.Add(25*time.Hour)), info, "10.0.0.1:1"), "more than"},
		"unpublished":    {w.say(good, unpublished, "10.0.0.1:1"), "no such package"},
		"other hash":     {w.say(good, info, "10.0.0.1:1", "info_hash", strings.Repeat("x", 20)), "no such package"},
		"no info":        {w.raw(string(good), "../../etc/shadow", "info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=aaaaaaaaaaaaaaaaaaaa&port=1&left=0", "10.0.0.1:1"), "no such package"},
		"short hash":     {w.say(good, info, "10.0.0.1:1", "info_hash", "x"), "info_hash"},
		"no peer id":     {w.say(good, info, "10.0.0.1:1", "peer_id", ""), "peer_id"},
		"port 0":         {w.say(good, info, "10.0.0.1:1", "port", "0"), "no port"},
		"port":           {w.say(good, info, "10.0.0.1:1", "port", "65536"), "no port"},
		"left":           {w.say(good, info, "10.0.0.1:1", "left", "-1"), "how much is left"},
		"event":          {w.say(good, info, "10.0.0.1:1", "event", "exploded"), "event"},
		"numwant":        {w.say(good, info, "10.0.0.1:1", "numwant", "x"), "numwant"},
		"not compact":    {w.say(good, info, "10.0.0.1:1", "compact", "0"), "compact"},
		"broken query":   {w.raw(string(good), info.Swarm().Info.Hex(), "info_hash=%zz", "10.0.0.1:1"), "query"},
		"no address":     {w.say(good, info, "@"), "no address"},
		"hash of others": {w.say(good, info, "10.0.0.1:1", "info_hash", string(hashOf(w.infos[1]))), "no such package"},
	} {
		var n int
		_, text, ok := strings.Cut(test.answer, "d14:failure reason")
		if _, err := fmt.Sscanf(text, "%d:", &n); !ok || err != nil || !strings.Contains(text, test.want) || len(text) != len(strconv.Itoa(n))+1+n+1 {
			t.Errorf("%s: the answer is %q, want a refusal with %q", name, test.answer, test.want)
		}
	}
	if got := w.Stats(); got.Swarms != 0 || got.Announces != 0 || got.Refused != 21 {
		t.Errorf("stats are %+v, want 21 refusals and nothing else", got)
	}
}

func mustKey(t testing.TB, token api.AnnounceToken) Key {
	t.Helper()
	key, err := token.Key()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func hashOf(i *repo.Info) []byte {
	hash := i.Swarm().InfoHash
	return hash[:]
}

// TestLimits: nobody can make the tracker remember more than it may, and a
// nest that tries hurts itself only.
func TestLimits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Limits{Peers: 6, PerSwarm: 3, PerNest: 2})
	hostile := w.nest(200)
	for n := range 500 { // one entry, whatever it says it is
		w.say(hostile, w.infos[0], fmt.Sprintf("10.1.0.%d:1", n%250), "port", strconv.Itoa(n+1), "peer_id", fmt.Sprintf("%020d", n))
	}
	if w.peers != 1 {
		t.Errorf("a nest has %d entries in one swarm", w.peers)
	}
	w.say(hostile, w.infos[1], "10.1.0.1:1")
	if answer := w.say(hostile, w.infos[2], "10.1.0.1:1"); !strings.Contains(answer, "too many") {
		t.Errorf("a third swarm of a nest: %q", answer)
	}
	for n := range byte(10) {
		answer := w.say(w.nest(n+1), w.infos[0], fmt.Sprintf("10.0.0.%d:1", n))
		if len(peersIn(t, answer)) == 0 {
			t.Errorf("nest %d hears of nobody", n)
		}
		if len(w.swarms[w.infos[0].Swarm().Info].peers) > 3 {
			t.Errorf("a swarm has over 3 entries")
		}
	}
	for n := range byte(10) {
		w.say(w.nest(n+50), w.infos[1], fmt.Sprintf("10.0.1.%d:1", n))
		w.say(w.nest(n+50), w.infos[2], fmt.Sprintf("10.0.1.%d:1", n))
	}
	if w.peers > 6 {
		t.Errorf("there are %d entries, over 6", w.peers)
	}
	if answer := w.say(w.nest(99), w.infos[0], "10.0.9.9:1"); len(peersIn(t, answer)) == 0 {
		t.Error("who comes to a full tracker hears of nobody")
	}
}

// TestConcurrent lets many announce at once; the counts stay right.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Limits{Peers: 20, PerSwarm: 8, PerNest: 3})
	tokens := make([]api.AnnounceToken, 16)
	for n := range tokens {
		tokens[n] = w.nest(byte(n + 1))
	}
	var wait sync.WaitGroup
	for n, token := range tokens {
		wait.Go(func() {
			for i := range 200 {
				event := []string{"", "started", "stopped"}[i%3]
				w.say(token, w.infos[(i+n)%4], fmt.Sprintf("10.0.0.%d:1", n), "left", strconv.Itoa(i%2), "event", event)
				if i%50 == 0 {
					w.Expire()
				}
			}
		})
	}
	wait.Wait()
	peers, seeds, nests := 0, 0, map[Key]int{}
	for _, s := range w.swarms {
		peers += len(s.peers)
		have := 0
		for _, p := range s.peers {
			if nests[p.nest]++; p.seed {
				have++
			}
		}
		if have != s.seeds {
			t.Errorf("a swarm counts %d seeds and has %d", s.seeds, have)
		}
		seeds += have
	}
	if peers != w.peers || seeds != w.seeds || len(nests) != len(w.Tracker.nests) || peers > 20 {
		t.Errorf("counted %d entries, %d seeds, %d nests; there are %d, %d, %d", w.peers, w.seeds, len(w.Tracker.nests), peers, seeds, len(nests))
	}
}

// FuzzAnnounce: no announce breaks the tracker, and every answer is a
// bencoded dictionary.
func FuzzAnnounce(f *testing.F) {
	w := newWorld(f, Limits{Peers: 50, PerSwarm: 5, PerNest: 3})
	token := string(w.nest(1))
	hash := url.QueryEscape(string(hashOf(w.infos[0])))
	good := "info_hash=" + hash + "&peer_id=aaaaaaaaaaaaaaaaaaaa&port=1&left=0"
	info := w.infos[0].Swarm().Info.Hex()
	f.Add(token, info, good, "10.0.0.1:1")
	f.Add(token, info, good+"&event=stopped&numwant=-1", "[2001:db8::1]:1")
	f.Add(token, info, good+"&numwant=99999999999999999999", "[fe80::1%eth0]:1")
	f.Add("", "", "", "")
	f.Fuzz(func(t *testing.T, token, info, query, from string) {
		answer := w.raw(token, info, query, from)
		if !strings.HasPrefix(answer, "d14:failure reason") && !strings.HasPrefix(answer, "d8:completei") || !strings.HasSuffix(answer, "e") {
			t.Errorf("the answer is %q", answer)
		}
		if w.peers > 50 {
			t.Errorf("%d entries", w.peers)
		}
	})
}
