package swarm

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"stork/repo"
)

func TestParseAnswer(t *testing.T) {
	t.Parallel()
	six := "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x50"
	a, err := parseAnswer([]byte("d8:completei1e1:xd1:yli1ei2eee8:intervali60e5:peers12:\x0a\x00\x00\x01\x1a\xe1\x0a\x00\x00\x02\x00\x006:peers618:" + six + "e"))
	if err != nil || a.interval != time.Minute || fmt.Sprint(a.peers) != "[10.0.0.1:6881 [2001:db8::1]:80]" {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := parseAnswer([]byte("d14:failure reason7:no\x1b[31me")); err == nil || !strings.Contains(err.Error(), "no?[31m") {
		t.Errorf("a refusal: %v", err)
	}
	for _, bad := range []string{
		"", "d", "de1", "i1e", "d5:peers5:abcdee", "d5:peersi1ee", "d8:intervali-1ee", "d8:interval1:1e", "d8:intervalle",
		"d1:x", "d1:xi1", "d1:xle", "d-1:xi1ee", "d99999999:xi1ee", "d1:x" + strings.Repeat("l", 1000) + strings.Repeat("e", 1001), "d1:x3:abe",
	} {
		if a, err := parseAnswer([]byte(bad)); err == nil {
			t.Errorf("%.40q is %+v", bad, a)
		}
	}
}

func FuzzParseAnswer(f *testing.F) {
	f.Add([]byte("d8:completei1e8:intervali60e5:peers6:\x0a\x00\x00\x01\x1a\xe1e"))
	f.Add([]byte("d14:failure reason2:noe"))
	f.Add([]byte("d1:xd1:yli1ei2eeee"))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parseAnswer(b)
		if err == nil && (a.interval < 0 || len(a.peers) > len(b)/6) {
			t.Errorf("%q is %+v", b, a)
		}
	})
}

func TestParseSearch(t *testing.T) {
	t.Parallel()
	hash := repo.InfoHash{1, 2, 3}
	good := "BT-SEARCH * HTTP/1.1\r\nHost: 239.192.152.143:6771\r\nPort: 6881\r\nInfohash: " + strings.ToUpper(hash.String()) + "\r\ncookie: abc\r\n\r\n\r\n"
	port, hashes, cookie := parseSearch([]byte(good))
	if port != 6881 || len(hashes) != 1 || hashes[0] != hash || cookie != "abc" {
		t.Errorf("%d, %v, %q", port, hashes, cookie)
	}
	for _, bad := range []string{"", "GET / HTTP/1.1\r\n\r\n", strings.Replace(good, "6881", "0", 1), strings.Replace(good, "6881", "70000", 1), strings.Replace(good, "Port", "Part", 1), good[:40]} {
		if port, hashes, _ := parseSearch([]byte(bad)); port != 0 || len(hashes) != 0 {
			t.Errorf("%q is %d, %v", bad, port, hashes)
		}
	}
}

func FuzzParseSearch(f *testing.F) {
	f.Add([]byte("BT-SEARCH * HTTP/1.1\r\nHost: 239.192.152.143:6771\r\nPort: 6881\r\nInfohash: 0102030000000000000000000000000000000000\r\ncookie: abc\r\n\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if port, hashes, _ := parseSearch(b); port == 0 && len(hashes) > 0 {
			t.Errorf("%q is %d, %v", b, port, hashes)
		}
	})
}

func TestPlaces(t *testing.T) {
	t.Parallel()
	p, err := placesOf([]string{"https://repo/blobs/x", "tracker+https://repo/announce/t/i", "bt://10.0.0.1:6881", "bt://[::1]:1"})
	if err != nil || len(p.trackers) != 1 || p.trackers[0] != "https://repo/announce/t/i" || len(p.peers) != 2 {
		t.Errorf("%+v, %v", p, err)
	}
	for _, bad := range []string{"tracker+", "tracker+udp://x:1", "tracker+http://", "tracker+http://x/?a=b", "bt://", "bt://x:1", "bt://10.0.0.1", "bt://10.0.0.1:0"} {
		if p, err := placesOf([]string{bad}); err == nil || !Owns(bad) {
			t.Errorf("%q is %+v", bad, p)
		}
	}
}
