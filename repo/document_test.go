package repo

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

var someDigest = DigestOf([]byte("content"))

// sampleList has one entry of every type.
func sampleList() *FileList {
	return &FileList{Format: FileListFormat, Files: []File{
		{Path: "/etc/app.conf", Type: Regular, Mode: 0o644, ModTime: 5, Digest: someDigest, Size: 7, Flags: []FileFlag{Config, NoReplace}},
		{Path: "/usr/bin/app", Type: Regular, Mode: 0o755, ModTime: 5, Digest: someDigest, Size: 7, Xattrs: map[string][]byte{CapabilityXattr: {1, 2}}},
		{Path: "/usr/bin/app2", Type: Regular, Mode: 0o755, ModTime: 5, Digest: someDigest, Size: 7, LinkTo: "/usr/bin/app"},
		{Path: "/usr/lib/app", Type: Dir, Mode: 0o2775, Group: "adm"},
		{Path: "/usr/lib/app/link", Type: Symlink, Mode: 0o777, Link: "../../bin/app"},
		{Path: "/usr/lib/app/pipe", Type: Fifo, Mode: 0o600},
		{Path: "/var/log/app.log", Type: Regular, Mode: 0o644, Flags: []FileFlag{Ghost}},
	}}
}

func sampleRecord() *Record {
	return &Record{
		Arch: "x86_64", Blob: Blob{Digest: someDigest, Format: RPM, Size: 10}, Format: RecordFormat, Name: "app",
		FileList: FileListObject{Count: 7, Digest: someDigest, Size: 100}, InstalledSize: 14, Version: "1.0", Release: "1",
		Paths: []string{"/usr/bin/app"}, Requires: []string{"(a or b)", "libc.so.6"}, RequiresPre: []string{"/bin/sh"},
		Provides:   []Capability{{Name: "app", Op: Equal, EVR: EVR{Version: "1.0", Release: "1"}}},
		Scriptlets: []Scriptlet{{Interpreter: []string{"/bin/sh"}, Phase: Post, Script: "ldconfig\n"}},
	}
}

func TestFileListRoundTrip(t *testing.T) {
	t.Parallel()
	b, object, err := sampleList().Encode()
	if err != nil {
		t.Fatal(err)
	}
	if object.Count != 7 || object.Digest != DigestOf(b) || object.Size != int64(len(b)) {
		t.Errorf("named as %+v", object)
	}
	// The golden digest holds the format: with another one, every package in
	// the field would have another ID.
	const golden = "sha256:6a7009dfaee2554c3dcea3356bf4008608979779fe9f6a1ca1385b2b450f88a4"
	if object.Digest.String() != golden {
		t.Errorf("digest %s, want %s", object.Digest, golden)
	}
	if _, err := DecodeFileList(b); err != nil {
		t.Error(err)
	}
}

func TestFileListCheck(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(l *FileList)
		want   string
	}{
		{"format", func(l *FileList) { l.Format = 2 }, "unknown format"},
		{"order", func(l *FileList) { l.Files[0], l.Files[3] = l.Files[3], l.Files[0] }, "out of order"},
		{"far below a file", func(l *FileList) {
			l.Files = append(l.Files, File{Path: l.Files[len(l.Files)-1].Path + "/a/b/c", Type: Dir})
		}, "which is no directory"},
		{"many directories implied", func(l *FileList) {
			deep := strings.Repeat("/a", 2000)
			for i := range MaxImplied/2000 + 1 {
				l.Files = append(l.Files, File{Path: fmt.Sprintf("/z%04d%s", i, deep), Type: Dir})
			}
		}, "implies over 131072 directories"},
		{"twice", func(l *FileList) { l.Files[3].Path = l.Files[2].Path }, "out of order or twice"},
		{"relative", func(l *FileList) { l.Files[0].Path = "etc/x" }, "absolute and clean"},
		{"dots", func(l *FileList) { l.Files[0].Path = "/etc/../x" }, "absolute and clean"},
		{"slash", func(l *FileList) { l.Files[0].Path = "/etc/" }, "absolute and clean"},
		{"root", func(l *FileList) { l.Files[0].Path = "/" }, "absolute and clean"},
		{"NUL", func(l *FileList) { l.Files[0].Path = "/etc/\x00" }, "absolute and clean"},
		{"UTF-8", func(l *FileList) { l.Files[0].Path = "/etc/\xff" }, "absolute and clean"},
		{"long element", func(l *FileList) { l.Files[0].Path = "/" + strings.Repeat("a", 256) }, "over 255"},
		{"long path", func(l *FileList) { l.Files[0].Path = strings.Repeat("/a", 2048) }, "absolute and clean"},
		{"below a file", func(l *FileList) { l.Files[1].Type, l.Files[2].Path = Regular, "/usr/bin/app/x" }, "is no directory"},
		{"below a symlink", func(l *FileList) {
			l.Files[3] = File{Path: "/usr/lib/app", Type: Symlink, Mode: 0o777, Link: "/etc"}
		}, "is no directory"},
		{"type", func(l *FileList) { l.Files[5].Type = "socket" }, "unknown type"},
		{"mode", func(l *FileList) { l.Files[0].Mode = 0o100644 }, "out of range"},
		{"negative size", func(l *FileList) { l.Files[0].Size = -1 }, "out of range"},
		{"no digest", func(l *FileList) { l.Files[0].Digest = Digest{} }, "no digest"},
		{"directory with size", func(l *FileList) { l.Files[3].Size = 1 }, "only a regular file"},
		{"file with target", func(l *FileList) { l.Files[0].Link = "x" }, "only a symlink"},
		{"symlink without", func(l *FileList) { l.Files[4].Link = "" }, "no usable target"},
		{"symlink with NUL", func(l *FileList) { l.Files[4].Link = "a\x00" }, "no usable target"},
		{"flag", func(l *FileList) { l.Files[0].Flags = []FileFlag{"evil"} }, "flag"},
		{"flag order", func(l *FileList) { l.Files[0].Flags = []FileFlag{NoReplace, Config} }, "flag"},
		{"flag twice", func(l *FileList) { l.Files[0].Flags = []FileFlag{Config, Config} }, "flag"},
		{"attribute", func(l *FileList) { l.Files[1].Xattrs = map[string][]byte{"user.x": nil} }, "extended attribute"},
		{"attribute of a directory", func(l *FileList) { l.Files[3].Xattrs = map[string][]byte{CapabilityXattr: {1}} }, "extended attribute"},
		{"link to nothing", func(l *FileList) { l.Files[2].LinkTo = "/usr/bin/no" }, "no hard link"},
		{"link forward", func(l *FileList) { l.Files[1].LinkTo = "/usr/bin/app2" }, "no hard link"},
		{"link of other mode", func(l *FileList) { l.Files[2].Mode = 0o700 }, "no hard link"},
		{"link of other content", func(l *FileList) { l.Files[2].Digest = DigestOf(nil) }, "no hard link"},
		{"link to a directory", func(l *FileList) {
			l.Files[4] = File{Path: "/usr/lib/app/link", Type: Regular, Digest: someDigest, LinkTo: "/usr/lib/app"}
		}, "no hard link"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := sampleList()
			tt.change(l)
			if err := l.Check(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("check: %v, want an error with %q", err, tt.want)
			}
		})
	}
	if err := sampleList().Check(); err != nil {
		t.Errorf("the sample itself: %v", err)
	}
}

// TestFileListBombs decodes lists whose entries take next to no text: they are
// refused before they take memory.
func TestFileListBombs(t *testing.T) {
	for _, entry := range []string{"{},", `{"flags":["",` + strings.Repeat(`"",`, 100) + `""]},`, `{"xattrs":{"a":"","b":""}},`} {
		b := []byte(`{"files":[` + strings.Repeat(entry, 48<<20/len(entry)) + `{}],"format":1}`)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := DecodeFileList(b)
		runtime.ReadMemStats(&after)
		if err == nil || !strings.Contains(err.Error(), "over 1000000 files") {
			t.Errorf("%.20s…: %v", entry, err)
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > 1<<20 {
			t.Errorf("%.20s…: %d bytes of memory", entry, took)
		}
	}
}

// TestRecordBombs does the same to records.
func TestRecordBombs(t *testing.T) {
	for _, list := range []string{`"provides":[{}` + strings.Repeat(",{}", 5<<20), `"requires":[""` + strings.Repeat(`,""`, 5<<20)} {
		b := []byte("{" + list + "]}")
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := DecodeRecord(b)
		runtime.ReadMemStats(&after)
		if err == nil || !strings.Contains(err.Error(), "too many") || after.TotalAlloc-before.TotalAlloc > 1<<20 {
			t.Errorf("%.20s…: %v, %d bytes of memory", b, err, after.TotalAlloc-before.TotalAlloc)
		}
	}
}

func TestRecordRoundTrip(t *testing.T) {
	t.Parallel()
	b, id, err := sampleRecord().Encode()
	if err != nil {
		t.Fatal(err)
	}
	const golden = "sha256:b60088bc2196e4ea53ff89468b23097dab2921314fc27373ed44f0da1aa315dd"
	if id.String() != golden {
		t.Errorf("package ID %s, want %s\n%s", id, golden, b)
	}
	r, err := DecodeRecord(b)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.NEVRA().String(); got != "app-1.0-1.x86_64" {
		t.Errorf("NEVRA %s", got)
	}
}

func TestDecodeRecordRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(r *Record)
	}{
		{"format", func(r *Record) { r.Format = 2 }},
		{"no name", func(r *Record) { r.Name = "" }},
		{"bad name", func(r *Record) { r.Name = "../x" }},
		{"no arch", func(r *Record) { r.Arch = "" }},
		{"no blob", func(r *Record) { r.Blob.Digest = Digest{} }},
		{"blob format", func(r *Record) { r.Blob.Format = "zip" }},
		{"empty blob", func(r *Record) { r.Blob.Size = 0 }},
		{"no file list", func(r *Record) { r.FileList.Digest = Digest{} }},
		{"huge file list", func(r *Record) { r.FileList.Size = MaxFileList + 1 }},
		{"negative count", func(r *Record) { r.FileList.Count = -1 }},
		{"negative size", func(r *Record) { r.InstalledSize = -1 }},
		{"no version", func(r *Record) { r.Version = "" }},
		{"version with hyphen", func(r *Record) { r.Version = "1-2" }},
		{"release with colon", func(r *Record) { r.Release = "1:2" }},
		{"requirement", func(r *Record) { r.Requires = []string{"(a and"} }},
		{"conflict", func(r *Record) { r.Conflicts = []string{"a b"} }},
		{"path", func(r *Record) { r.Paths = []string{"usr/bin/x"} }},
		{"provide", func(r *Record) { r.Provides = []Capability{{Name: "a b"}} }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := sampleRecord()
			tt.change(r)
			b, _, err := r.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := DecodeRecord(b); err == nil {
				t.Errorf("%s was accepted", b)
			}
		})
	}
	if _, err := DecodeRecord(make([]byte, MaxRecord+1)); err == nil || !strings.Contains(err.Error(), "over") {
		t.Errorf("too large: %v", err)
	}
}

func FuzzDecodeFileList(f *testing.F) {
	b, _, err := sampleList().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"files":null,"format":1}`))
	f.Add([]byte(`{"files":[],"format":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := DecodeFileList(b)
		if err != nil {
			return
		}
		again, object, err := l.Encode()
		if err != nil || string(again) != string(b) || object.Digest != DigestOf(b) {
			t.Errorf("%q was read and is written as %q, %v", b, again, err)
		}
	})
}

func FuzzDecodeRecord(f *testing.F) {
	b, _, err := sampleRecord().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := DecodeRecord(b)
		if err != nil {
			return
		}
		again, id, err := r.Encode()
		if err != nil || string(again) != string(b) || id != DigestOf(b) {
			t.Errorf("%q was read and is written as %q, %v", b, again, err)
		}
	})
}

func TestIsPrimaryPath(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]bool{
		"/etc/passwd": true, "/usr/bin/x": true, "/usr/sbin/x": true, "/opt/a/bin/x": true, "/usr/lib/sendmail": true,
		"/usr/lib/x": false, "/usr/share/etc/x": false, "/etc": false, "/usr/lib/sendmail2": false,
	} {
		if got := IsPrimaryPath(path); got != want {
			t.Errorf("IsPrimaryPath(%q) = %v, want %v", path, got, want)
		}
	}
}
