package inventory

import (
	"testing"

	"stork/repo/durable"
)

func BenchmarkCold(b *testing.B) {
	names := append(hostCaps(b), "bash", "perl", "awk", "/usr/bin/perl")
	for b.Loop() {
		provided(b, Open("/", "", durable.Disk{}), names...)
	}
}

func BenchmarkWarm(b *testing.B) {
	names := append(hostCaps(b), "bash", "perl", "awk", "/usr/bin/perl")
	dir := b.TempDir()
	first := Open("/", dir, durable.Disk{})
	provided(b, first, names...)
	if err := first.Flush(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		provided(b, Open("/", dir, durable.Disk{}), names...)
	}
}
