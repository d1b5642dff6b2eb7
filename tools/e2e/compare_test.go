package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// output runs a command in a guest and returns what it prints.
func (b *bed) output(ts *testscript.TestScript, name string, args ...string) string {
	if status := b.in(ts, name, args...); status != 0 {
		ts.Fatalf("%s in %s: status %d", strings.Join(args, " "), name, status)
	}
	return ts.ReadFile("stdout")
}

func inode(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) >= 3, "inode FILE GUEST…")
	b, first := bedOf(ts), ""
	for i, name := range args[1:] {
		got := b.output(ts, name, "stat", "-c", "%d:%i", args[0])
		if i == 0 {
			first = got
			continue
		}
		if (got == first) == neg {
			ts.Fatalf("%s is %s in %s and %s in %s", args[0], strings.TrimSpace(first), args[1], strings.TrimSpace(got), name)
		}
	}
}

// hashtree keeps a hash of everything that a directory holds, or compares it
// with the one that was kept.
func hashtree(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) == 3 && (args[0] == "save" || args[0] == "same"), "hashtree save|same NAME DIR")
	now, err := treeHash(ts.MkAbs(args[2]))
	ts.Check(err)
	b := bedOf(ts)
	if args[0] == "save" {
		noNeg(ts, neg)
		b.trees[args[1]] = now
		return
	}
	if (b.trees[args[1]] == now) == neg {
		ts.Fatalf("%s: hash %s, saved %s", args[2], now, b.trees[args[1]])
	}
}

// treeHash covers names, kinds, modes, owners, sizes, times, link targets,
// extended attributes' names and content.
func treeHash(dir string) (string, error) {
	h := sha256.New()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		attributes := make([]byte, 4096)
		n, err := unix.Llistxattr(path, attributes)
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%q %o %d %d %d %d %q\n", path, st.Mode, st.Uid, st.Gid, st.Ino, st.Mtim.Nano(), attributes[:n])
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			fmt.Fprintf(h, "%q\n", target)
			return err
		case !d.Type().IsRegular():
			return nil
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(h, f)
		return err
	})
	return hex.EncodeToString(h.Sum(nil)), err
}

// asRPM compares what a guest has with what rpm says of the package: types,
// modes, owners, link targets, digests.
func asRPM(ts *testscript.TestScript, neg bool, args []string) {
	noNeg(ts, neg)
	usage(ts, len(args) == 2, "asrpm GUEST FILE")
	b := bedOf(ts)
	const format = `[%{FILENAMES}|%{FILEMODES:octal}|%{FILEUSERNAME}|%{FILEGROUPNAME}|%{FILELINKTOS}|%{FILEDIGESTS}|%{FILEFLAGS:fflags}\n]`
	ts.Check(ts.Exec("rpm", "-qp", "--nosignature", "--queryformat", format, ts.MkAbs(args[1])))
	checked := 0
	for line := range strings.Lines(ts.ReadFile("stdout")) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "|")
		if len(f) != 7 {
			ts.Fatalf("cannot read %q", line)
		}
		if strings.Contains(f[6], "g") {
			continue // ghost: not in the package
		}
		b.asListed(ts, args[0], f)
		checked++
	}
	ts.Logf("%d files are as rpm lists them", checked)
	if checked == 0 {
		ts.Fatalf("rpm lists no file in %s", args[1])
	}
}

func (b *bed) asListed(ts *testscript.TestScript, guest string, f []string) {
	path, mode, digest := f[0], f[1], f[5]
	got := b.output(ts, guest, "sh", "-c", `stat -c '%f %U %G' "$0"; if [ -h "$0" ]; then readlink "$0"; elif [ -f "$0" ]; then `+sumOf(digest)+` <"$0"; fi`, path)
	var want strings.Builder
	var bits uint32
	if _, err := fmt.Sscanf(mode, "%o", &bits); err != nil {
		ts.Fatalf("%s: cannot read mode %q", path, mode)
	}
	fmt.Fprintf(&want, "%x %s %s\n", bits, f[2], f[3])
	switch {
	case f[4] != "":
		want.WriteString(f[4] + "\n")
	case digest != "":
		want.WriteString(digest + "  -\n")
	}
	if got != want.String() {
		ts.Fatalf("%s in %s:\n got %q\nwant %q", path, guest, got, want.String())
	}
}

// sumOf is the program that makes a digest of this length.
func sumOf(digest string) string {
	switch len(digest) {
	case 32:
		return "md5sum"
	case 40:
		return "sha1sum"
	}
	return "sha256sum"
}
