package swarm

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"sync"
	"testing"
)

// tracker is a small one that believes everybody.
type tracker struct {
	*httptest.Server
	mu     sync.Mutex
	peers  map[string]map[netip.AddrPort]bool // by info hash
	events []string
	fail   string // refuse with that text
}

func startTracker(t testing.TB) *tracker {
	t.Helper()
	tr := &tracker{peers: map[string]map[netip.AddrPort]bool{}}
	tr.Server = httptest.NewUnstartedServer(tr)
	tr.Listener.Close()
	var err error
	if tr.Listener, err = net.Listen("tcp", newHost()+":0"); err != nil {
		t.Fatal(err)
	}
	tr.Start()
	t.Cleanup(tr.Close)
	return tr
}

// ServeHTTP implements [http.Handler]. A peer is where its connection comes
// from, which is an address of its own only if its HTTP client sees to that.
func (tr *tracker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	q := r.URL.Query()
	if tr.fail != "" {
		fmt.Fprintf(w, "d14:failure reason%d:%se", len(tr.fail), tr.fail)
		return
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	port, portErr := strconv.ParseUint(q.Get("port"), 10, 16)
	if err != nil || portErr != nil || len(q.Get("info_hash")) != 20 || len(q.Get("peer_id")) != 20 {
		http.Error(w, "bad announce", http.StatusBadRequest)
		return
	}
	hash, at := q.Get("info_hash"), netip.AddrPortFrom(from.Addr(), uint16(port))
	tr.events = append(tr.events, fmt.Sprintf("%s %s left %s", at, q.Get("event"), q.Get("left")))
	if tr.peers[hash] == nil {
		tr.peers[hash] = map[netip.AddrPort]bool{}
	}
	if q.Get("event") == "stopped" {
		delete(tr.peers[hash], at)
	} else {
		tr.peers[hash][at] = true
	}
	var list []byte
	for p := range tr.peers[hash] {
		if p != at {
			b := p.Addr().As4()
			list = append(append(list, b[:]...), byte(p.Port()>>8), byte(p.Port()))
		}
	}
	fmt.Fprintf(w, "d8:intervali60e5:peers%d:%se", len(list), list)
}

func (tr *tracker) seen() []string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return append([]string{}, tr.events...)
}
