package tracker

import (
	"fmt"
	"net/netip"
	"time"
)

// answer is what an announcer is told.
type answer struct {
	seeds, leechers int
	interval        time.Duration
	peers           []netip.AddrPort
}

// encode returns the answer in bencoding: peers of IPv4 in 6 bytes each (BEP
// 23), of IPv6 in 18 (BEP 7).
func (a *answer) encode() []byte {
	var four, six []byte
	for _, p := range a.peers {
		if address := p.Addr(); address.Is4() {
			b := address.As4()
			four = append(append(four, b[:]...), byte(p.Port()>>8), byte(p.Port()))
		} else {
			b := address.As16()
			six = append(append(six, b[:]...), byte(p.Port()>>8), byte(p.Port()))
		}
	}
	b := fmt.Appendf(nil, "d8:completei%de10:incompletei%de8:intervali%de12:min intervali%de5:peers%d:",
		a.seeds, a.leechers, a.interval/time.Second, minInterval/time.Second, len(four))
	b = append(b, four...)
	if len(six) > 0 {
		b = append(fmt.Appendf(b, "6:peers6%d:", len(six)), six...)
	}
	return append(b, 'e')
}

// refusal is the answer to who gets none. Clients show it to people.
func refusal(err error) []byte {
	text := err.Error()
	return fmt.Appendf(nil, "d14:failure reason%d:%se", len(text), text)
}
