package swarm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// maxAnswer is more than a tracker's answer has, in bytes.
const maxAnswer = 64 << 10

// trackerAnswer is what a tracker says.
type trackerAnswer struct {
	interval time.Duration
	peers    []netip.AddrPort
}

var errAnswer = errors.New("the tracker's answer can not be read")

// parseAnswer reads a tracker's answer (BEP 3, BEP 7, BEP 23).
func parseAnswer(b []byte) (trackerAnswer, error) {
	var a trackerAnswer
	rest, ok := bytes.CutPrefix(b, []byte("d"))
	if !ok {
		return a, errAnswer
	}
	for !bytes.HasPrefix(rest, []byte("e")) {
		key, after, err := bencodedString(rest)
		if err != nil {
			return a, err
		}
		value, after, err := bencodedValue(after, 0)
		if err != nil {
			return a, err
		}
		rest = after
		if err := a.set(string(key), value); err != nil {
			return a, err
		}
	}
	if len(rest) != 1 {
		return a, errAnswer
	}
	return a, nil
}

// set takes one entry of the answer, in its bencoding.
func (a *trackerAnswer) set(key string, value []byte) error {
	switch key {
	case "failure reason":
		text, _, err := bencodedString(value)
		if err != nil {
			return err
		}
		return fmt.Errorf("the tracker refuses: %s", printable(text))
	case "interval":
		seconds, err := strconv.ParseInt(string(bytes.Trim(value, "ie")), 10, 32)
		if err != nil || value[0] != 'i' || seconds < 0 {
			return errAnswer
		}
		a.interval = time.Duration(seconds) * time.Second
	case "peers":
		return a.add(value, 4)
	case "peers6":
		return a.add(value, 16)
	}
	return nil
}

// add reads addresses of that many bytes, each with its port behind.
func (a *trackerAnswer) add(value []byte, size int) error {
	list, _, err := bencodedString(value)
	if err != nil || len(list)%(size+2) != 0 {
		return errAnswer
	}
	for ; len(list) > 0; list = list[size+2:] {
		at, _ := netip.AddrFromSlice(list[:size])
		if port := binary.BigEndian.Uint16(list[size:]); port != 0 {
			a.peers = append(a.peers, netip.AddrPortFrom(at.Unmap(), port))
		}
	}
	return nil
}

// maxDepth is how deep values may lie in each other.
const maxDepth = 8

// bencodedString reads a string, and returns what comes behind it.
func bencodedString(b []byte) (s, rest []byte, err error) {
	number, rest, ok := bytes.Cut(b, []byte(":"))
	if !ok || len(number) == 0 || len(number) > 6 || number[0] < '0' || number[0] > '9' {
		return nil, nil, errAnswer
	}
	n, err := strconv.Atoi(string(number))
	if err != nil || n > len(rest) {
		return nil, nil, errAnswer
	}
	return rest[:n], rest[n:], nil
}

// bencodedValue returns the bencoding of the value at the beginning, and what
// comes behind it.
func bencodedValue(b []byte, depth int) (value, rest []byte, err error) {
	if len(b) == 0 || depth > maxDepth {
		return nil, nil, errAnswer
	}
	switch b[0] {
	case 'i':
		end := bytes.IndexByte(b, 'e')
		if end < 0 || end > 24 {
			return nil, nil, errAnswer
		}
		rest = b[end+1:]
	case 'l', 'd':
		rest = b[1:]
		for !bytes.HasPrefix(rest, []byte("e")) {
			if _, rest, err = bencodedValue(rest, depth+1); err != nil {
				return nil, nil, err
			}
		}
		rest = rest[1:]
	default:
		if _, rest, err = bencodedString(b); err != nil {
			return nil, nil, err
		}
	}
	return b[:len(b)-len(rest)], rest, nil
}

// printable makes text of a stranger safe to log.
func printable(b []byte) string {
	const most = 200
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(string(b[:min(len(b), most)]), "?"))
}
