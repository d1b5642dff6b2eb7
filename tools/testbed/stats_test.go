package testbed

import "testing"

// TestParseLink reads what the kernel writes.
func TestParseLink(t *testing.T) {
	t.Parallel()
	const text = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       2    0    0    0     0          0         0      100       2    0    0    0     0       0          0
  eth0: 4294967299     12    0    0    0     0          0         0     1318      17    0    0    0     0       0          0
`
	got, err := parseLink(text)
	if want := (LinkStats{Received: 4294967299, Sent: 1318}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for _, bad := range []string{"", "  eth0: 1 2", "eth1: 1 2 3 4 5 6 7 8 9", "eth0: x 2 3 4 5 6 7 8 9"} {
		if got, err := parseLink(bad); err == nil {
			t.Errorf("%q gives %+v", bad, got)
		}
	}
}
