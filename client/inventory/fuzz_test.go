package inventory

import (
	"bytes"
	"encoding/binary"
	"os"
	"strings"
	"testing"

	"stork/repo"
)

func FuzzStatus(f *testing.F) {
	f.Add([]byte(status))
	f.Add([]byte("Package: a\nStatus: install ok installed\nVersion: 1:2-3\nProvides: b (= 1), , c (<< 2)\n"))
	f.Add([]byte("Package:\nStatus: \nVersion:\n\n\n\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := newCache()
		c.dpkg = parseStatus(b)
		again, err := parseCache(string(c.format()))
		if err != nil {
			t.Fatalf("cannot read own cache: %v", err)
		}
		for name, list := range c.dpkg {
			if len(again.dpkg[name]) != len(list) {
				t.Errorf("%q: %v became %v", name, list, again.dpkg[name])
			}
		}
	})
}

func FuzzCache(f *testing.F) {
	f.Add(cacheHeader + "\nd\t1\t2\nn\tawk\t\nr\t3\t4\nq\tweb\nc\tx\tweb = 1\ne\t5\t6\ttrue\t62\t/lib/l\nv\tA\n")
	f.Add(cacheHeader + "\n")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := parseCache(s)
		if err != nil {
			return
		}
		first := c.format()
		again, err := parseCache(string(first))
		if err != nil || !bytes.Equal(again.format(), first) {
			t.Errorf("not stable: %v\n%q", err, first)
		}
	})
}

func FuzzSoname(f *testing.F) {
	for _, s := range []string{"libc.so.6()(64bit)", "libc.so.6(GLIBC_2.34)(64bit)", "libc.so.6", "a.so(", ".so"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		s, ok := parseSoname(name)
		if ok && (strings.ContainsAny(s.file, "/") || s.file == "" || !strings.HasPrefix(name, s.file)) {
			t.Errorf("parseSoname(%q) = %+v", name, s)
		}
	})
}

func FuzzRPMOutput(f *testing.F) {
	f.Add([]byte("P\ttool-1-1.noarch\nC\ttool\t =  \t1-1\nno package provides x\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, h := range parseProvidesOutput(b) {
			if _, err := repo.ParseCapability(h.cap.String()); err != nil || h.nevra == "" {
				t.Errorf("%+v: %v", h, err)
			}
		}
	})
}

func FuzzLibrary(f *testing.F) {
	for _, name := range []string{"/lib64/ld-linux-x86-64.so.2", "/proc/self/exe"} {
		if b, err := os.ReadFile(name); err == nil && len(b) < 1<<20 {
			f.Add(b)
		}
	}
	header := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 57)...)
	header[16], header[18], header[20], header[52], header[58] = 3, 62, 1, 64, 64
	f.Add(header)
	f.Fuzz(func(t *testing.T, b []byte) {
		lib := readLibrary(bytes.NewReader(b))
		if len(lib.versions) > maxVersions {
			t.Errorf("%d versions", len(lib.versions))
		}
	})
}

func FuzzVersionDefinitions(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x01\x00\x01\x00\x00\x00\x00\x00\x14\x00\x00\x00\x1c\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00"), []byte("\x00A_1\x00"))
	f.Fuzz(func(t *testing.T, table, names []byte) {
		for _, v := range versionDefinitions(table, names, binary.LittleEndian) {
			if v == "" || strings.ContainsAny(v, "\t\n") {
				t.Errorf("version %q", v)
			}
		}
	})
}
