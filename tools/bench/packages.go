package bench

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"stork/fixtures"
)

// sizedPackage writes a package of n small files below /opt/NAME, with a
// program that proves that it runs, and returns its path.
func sizedPackage(dir, name string, n int) (string, error) {
	return writePackage(dir, sizedSpec(name, n))
}

func sizedSpec(name string, n int) fixtures.Spec {
	spec := fixtures.Spec{Name: name, Arch: "noarch", Summary: fmt.Sprintf("%d files", n)}
	prefix := "/opt/" + name
	spec.Files = append(spec.Files, fixtures.Program(prefix+"/bin/"+name, "#!/bin/sh\necho "+name+" runs\n"))
	for i := 1; i < n; i++ {
		path := fmt.Sprintf("%s/share/d%02d/f%05d", prefix, i/100, i)
		spec.Files = append(spec.Files, fixtures.Text(path, content(name, i)))
	}
	return spec
}

// content is about 2 KB that differ from file to file.
func content(name string, i int) string {
	return strings.Repeat(fmt.Sprintf("%s %d: what a small file says\n", name, i), 40+i%40)
}

// tree is a package of a directory of this machine.
type tree struct {
	path  string
	files int
	bytes int64
}

// treePackage writes a package of everything below source, under prefix. mark
// is added to every file, for packages that shall have none in common; such a
// package's programs do not matter.
func treePackage(dir, name, source, prefix, mark string) (t tree, err error) {
	spec := fixtures.Spec{Name: name, Version: runtime.Version()[2:], Arch: "x86_64", Summary: "The tree " + filepath.Base(source), Compression: "zstd:1"}
	err = filepath.WalkDir(source, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == source {
			return err
		}
		f, err := treeFile(p, prefix+strings.TrimPrefix(p, source), d)
		if err == nil && f.Path != "" {
			if len(f.Content) > 0 {
				f.Content = append(f.Content, mark...)
			}
			t.bytes += int64(len(f.Content))
			spec.Files = append(spec.Files, f)
		}
		return err
	})
	if err != nil {
		return t, fmt.Errorf("cannot pack %s: %w", source, err)
	}
	t.files = len(spec.Files)
	t.path, err = writePackage(dir, spec)
	return t, err
}

// entryAt is a file as its directory lists it.
func entryAt(path string) (fs.DirEntry, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	return fs.FileInfoToDirEntry(info), nil
}

// treeFile describes one file of the machine's own tree; what is neither file,
// directory nor symlink is left out.
func treeFile(path, target string, d fs.DirEntry) (fixtures.File, error) {
	info, err := d.Info()
	if err != nil {
		return fixtures.File{}, err
	}
	f := fixtures.File{Path: target, Mode: info.Mode().Perm(), ModTime: info.ModTime()}
	switch {
	case d.IsDir():
		return fixtures.Directory(target), nil
	case info.Mode()&fs.ModeSymlink != 0:
		link, err := os.Readlink(path)
		return fixtures.Symlink(target, link), err
	case info.Mode().IsRegular():
		f.Content, err = os.ReadFile(path)
		return f, err
	}
	return fixtures.File{}, nil
}

func writePackage(dir string, spec fixtures.Spec) (string, error) {
	b, err := fixtures.RPM(spec)
	if err != nil {
		return "", fmt.Errorf("cannot build package %s: %w", spec.Name, err)
	}
	path := filepath.Join(dir, spec.Name+".rpm")
	return path, os.WriteFile(path, b, 0o644)
}
