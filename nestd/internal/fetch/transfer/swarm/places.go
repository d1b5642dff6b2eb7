package swarm

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"stork/nestd/internal/fetch/transfer"
	"stork/repo"
)

// The schemes of places that this method knows.
const (
	trackerScheme = "tracker+"
	peerScheme    = "bt://"
)

// TrackerPlace makes a place of the address at which a blob's tracker answers
// announces, http or https: see repo/api.AnnouncePath.
func TrackerPlace(address string) string { return trackerScheme + address }

// PeerPlace makes a place of the address of a peer.
func PeerPlace(at netip.AddrPort) string { return peerScheme + at.String() }

// Owns reports whether a place is one of this method.
func Owns(place string) bool {
	return strings.HasPrefix(place, trackerScheme) || strings.HasPrefix(place, peerScheme)
}

// places are what an order says of where peers are.
type places struct {
	trackers []string
	peers    []netip.AddrPort
}

// placesOf reads the places of this method, and passes over all others.
func placesOf(list []string) (places, error) {
	var p places
	for _, place := range list {
		if address, ok := strings.CutPrefix(place, trackerScheme); ok {
			u, err := url.Parse(address)
			if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" {
				return p, fmt.Errorf("%q is no address of a tracker", address)
			}
			p.trackers = append(p.trackers, address)
		}
		if address, ok := strings.CutPrefix(place, peerScheme); ok {
			at, err := netip.ParseAddrPort(address)
			if err != nil || at.Port() == 0 {
				return p, fmt.Errorf("%q is no address of a peer", address)
			}
			p.peers = append(p.peers, at)
		}
	}
	return p, nil
}

// infoOf makes the info dictionary of an order.
func infoOf(o transfer.Order) (*repo.Info, error) {
	if o.Pieces == nil {
		return nil, fmt.Errorf("%w: there is no swarm of it", transfer.ErrAbsent)
	}
	if o.Pieces.Length != repo.PieceLength(o.Object.Size) {
		return nil, errors.New("its pieces are not those of its swarm")
	}
	return &repo.Info{Blob: o.Object.Digest, Size: o.Object.Size, Pieces: o.Pieces.Sums}, nil
}
