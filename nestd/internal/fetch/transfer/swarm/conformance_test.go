package swarm

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"sync/atomic"
	"testing"

	"stork/nestd/internal/fetch/transfer"
	"stork/nestd/internal/fetch/transfer/transfertest"
	"stork/repo"
)

// hosts gives each peer an address of its own, as peers have: who is banned is
// banned by that.
var hosts atomic.Uint32

func newHost() string {
	n := hosts.Add(1)
	return fmt.Sprintf("%s.%d.%d", hostPrefix(), n/200, n%200+1)
}

// newSwarm starts a nest's part at an address of its own.
func newSwarm(t testing.TB, change func(*Options)) *Swarm {
	t.Helper()
	o := Options{
		Listen: netip.AddrPortFrom(netip.MustParseAddr(newHost()), 0), HTTP: http.DefaultClient,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	if change != nil {
		change(&o)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestConformance(t *testing.T) {
	transfertest.Run(t, transfertest.Subject{
		MinSize: repo.MinSwarm + 1,
		Serve: func(t testing.TB, text []byte, fault transfertest.Fault) (string, transfer.Order) {
			p := startPeer(t, newHost(), text, fault)
			return "", transfer.Order{Places: []string{PeerPlace(p.at)}, Pieces: piecesOf(text)}
		},
		Method: func(string) (transfer.Method, error) {
			return New(Options{HTTP: http.DefaultClient, Log: slog.New(slog.DiscardHandler)})
		},
	})
}
