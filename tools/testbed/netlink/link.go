package netlink

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Attributes that x/sys does not name: linux/veth.h, linux/pkt_sched.h.
const (
	vethInfoPeer = 1
	tcaTbfParms  = 1
	tcaTbfBurst  = 6
	tcRoot       = 0xFFFFFFFF
)

// linkMessage starts a message about an interface; 0 is a new one.
func linkMessage(kind, flags uint16, index int, up bool) *message {
	m := &message{kind: kind, flags: flags}
	m.raw(linkHeader(index, up))
	return m
}

// linkHeader is struct ifinfomsg (rtnetlink(7)).
func linkHeader(index int, up bool) []byte {
	head := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(head[4:], uint32(index))
	if up {
		binary.NativeEndian.PutUint32(head[8:], unix.IFF_UP)
		binary.NativeEndian.PutUint32(head[12:], unix.IFF_UP)
	}
	return head
}

// AddVeth makes a pair of interfaces: name here, and peer in the network
// namespace of the process pid.
func (c *Conn) AddVeth(name, peer string, pid int) error {
	m := linkMessage(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, 0, false)
	m.attrString(unix.IFLA_IFNAME, name)
	m.nest(unix.IFLA_LINKINFO, func() {
		m.attrString(unix.IFLA_INFO_KIND, "veth")
		m.nest(unix.IFLA_INFO_DATA, func() {
			m.nest(vethInfoPeer, func() {
				m.raw(linkHeader(0, false))
				m.attrString(unix.IFLA_IFNAME, peer)
				m.attr32(unix.IFLA_NET_NS_PID, uint32(pid))
			})
		})
	})
	if err := c.do(m); err != nil {
		return fmt.Errorf("cannot make the link %s: %w", name, err)
	}
	return nil
}

// Up brings an interface up.
func (c *Conn) Up(name string) error {
	index, err := indexOf(name)
	if err != nil {
		return err
	}
	if err := c.do(linkMessage(unix.RTM_NEWLINK, 0, index, true)); err != nil {
		return fmt.Errorf("cannot bring up %s: %w", name, err)
	}
	return nil
}

// AddAddress gives an interface an IPv4 address.
func (c *Conn) AddAddress(name string, prefix netip.Prefix) error {
	index, err := indexOf(name)
	if err != nil {
		return err
	}
	m := &message{kind: unix.RTM_NEWADDR, flags: unix.NLM_F_CREATE | unix.NLM_F_EXCL}
	head := make([]byte, unix.SizeofIfAddrmsg)
	head[0], head[1] = unix.AF_INET, byte(prefix.Bits())
	binary.NativeEndian.PutUint32(head[4:], uint32(index))
	m.raw(head)
	address := prefix.Addr().As4()
	m.attr(unix.IFA_LOCAL, address[:])
	m.attr(unix.IFA_ADDRESS, address[:])
	if err := c.do(m); err != nil {
		return fmt.Errorf("cannot give %s the address %s: %w", name, prefix, err)
	}
	return nil
}

// AddDefaultRoute sends everything else to gateway.
func (c *Conn) AddDefaultRoute(gateway netip.Addr) error {
	m := &message{kind: unix.RTM_NEWROUTE, flags: unix.NLM_F_CREATE | unix.NLM_F_EXCL}
	head := make([]byte, unix.SizeofRtMsg)
	head[0] = unix.AF_INET
	head[4], head[5], head[6], head[7] = unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST
	m.raw(head)
	address := gateway.As4()
	m.attr(unix.RTA_GATEWAY, address[:])
	if err := c.do(m); err != nil {
		return fmt.Errorf("cannot route to %s: %w", gateway, err)
	}
	return nil
}

// Limit sets how many bytes a second leave through an interface, with a
// token bucket that bursts 256 KiB and queues 50 ms (tc-tbf(8)).
func (c *Conn) Limit(name string, bytesPerSecond uint32) error {
	index, err := indexOf(name)
	if err != nil {
		return err
	}
	const burst = 256 << 10
	m := &message{kind: unix.RTM_NEWQDISC, flags: unix.NLM_F_CREATE | unix.NLM_F_REPLACE}
	head := make([]byte, 20)                               // struct tcmsg
	binary.NativeEndian.PutUint32(head[4:], uint32(index)) // interface
	binary.NativeEndian.PutUint32(head[8:], 1<<16)         // handle 1:
	binary.NativeEndian.PutUint32(head[12:], tcRoot)       // parent
	m.raw(head)
	m.attrString(unix.TCA_KIND, "tbf")
	m.nest(unix.TCA_OPTIONS, func() {
		parms := make([]byte, 36)                                // struct tc_tbf_qopt
		parms[1] = 1                                             // rate.linklayer: Ethernet, so no rate table
		binary.NativeEndian.PutUint32(parms[8:], bytesPerSecond) // rate.rate
		binary.NativeEndian.PutUint32(parms[24:], bytesPerSecond/20+burst)
		m.attr(tcaTbfParms, parms)
		m.attr32(tcaTbfBurst, burst)
	})
	if err := c.do(m); err != nil {
		return fmt.Errorf("cannot limit %s: %w", name, err)
	}
	return nil
}

func indexOf(name string) (int, error) {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return 0, fmt.Errorf("cannot find the link %s: %w", name, err)
	}
	return link.Index, nil
}
