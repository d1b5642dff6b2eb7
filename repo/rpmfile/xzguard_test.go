package rpmfile

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"testing"
)

// xzOf compresses with the xz program.
func xzOf(t *testing.T, plain []byte, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath("xz"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("xz is not installed: make deps installs it")
		}
		t.Skip("xz is not installed: make deps installs it")
	}
	cmd := exec.Command("xz", append([]string{"-c"}, args...)...)
	cmd.Stdin = bytes.NewReader(plain)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func unxz(b []byte) ([]byte, error) {
	z, release, err := decompressor("xz", newStream(bytes.NewReader(b)))
	if err != nil {
		return nil, err
	}
	defer release()
	return io.ReadAll(z)
}

// TestXZGuardPasses: every stream within the limit comes through unchanged:
// several blocks, every check, data that does not compress.
func TestXZGuardPasses(t *testing.T) {
	t.Parallel()
	plain := bytes.Repeat([]byte("some text that repeats, "), 20_000)
	for i := range 100_000 {
		plain = append(plain, byte(i*i>>3^i>>7))
	}
	for _, args := range [][]string{{"-6"}, {"--block-size=65536"}, {"--check=none"}, {"--check=crc32", "--block-size=70001"},
		{"--check=sha256", "-0"}, {"-T2", "--block-size=100000"}} {
		got, err := unxz(xzOf(t, plain, args...))
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%v: got %d bytes of %d, %v", args, len(got), len(plain), err)
		}
	}
}

// TestXZGuardRefuses: a block must not make us allocate gigabytes, not even
// one behind others.
func TestXZGuardRefuses(t *testing.T) {
	t.Parallel()
	plain := []byte("short")
	for _, args := range [][]string{{"--lzma2=dict=1GiB"}, {"--x86", "--lzma2=dict=1MiB"}} {
		if _, err := unxz(xzOf(t, plain, args...)); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%v: got %v, want it unsupported", args, err)
		}
	}
	small := xzOf(t, bytes.Repeat([]byte("x"), 200_000), "--block-size=100000", "--check=none")
	big := xzOf(t, plain, "--lzma2=dict=1GiB", "--check=none")
	// The second block starts behind the first, which the next test of a
	// block header finds: graft the big one's header there.
	g := &xzGuard{raw: bytes.NewReader(append(bytes.Clone(small[:blockEnd(t, small)]), big[12:]...))}
	if _, err := io.Copy(io.Discard, g); !errors.Is(err, ErrUnsupported) {
		t.Errorf("second block: got %v, want it unsupported", err)
	}
}

// blockEnd returns where the first block ends.
func blockEnd(t *testing.T, b []byte) int {
	t.Helper()
	r := bytes.NewReader(b)
	g := &xzGuard{raw: r}
	headers := 0
	for {
		if g.part == xzBlockHeader && len(g.pending) == 0 && g.pass == 0 {
			if headers++; headers == 2 {
				return len(b) - r.Len()
			}
		}
		if _, err := g.Read(make([]byte, 4096)); err != nil {
			t.Fatal(err)
		}
	}
}
