package ingest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"stork/repo"
	"stork/repo/frames"
	"stork/repo/rpmfile"
)

// createFile makes a file, as durable.Disk does.
type createFile func(path string, fill func(*os.File) error) error

// writeFrames makes the frames of a package that is being read, into the
// session's directory, and reports whether it did: small packages have none,
// nor has what another publisher has published already, nor one whose header
// does not say which contents it has.
func (v *verification) writeFrames(reader *rpmfile.Reader, blob repo.Blob) (bool, error) {
	list, ok := reader.Declared()
	if v.frames == nil || !ok || v.src.session == nil {
		return false, nil
	}
	layout := frames.LayoutOf(list)
	if _, err := os.Lstat(v.src.tree(repo.FramesPath(blob.Digest))); !layout.Useful(blob.Size) || err == nil {
		return false, nil
	}
	path := framesFile(v.src.session.dir, blob.Digest)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, fmt.Errorf("cannot make frames: %w", err) // of an attempt that broke off
	}
	var filling error // a package that is malformed is no failure of the disk
	err := v.frames(path, func(f *os.File) error {
		if filling = fillFrames(f, layout, list, reader); filling != nil {
			return filling
		}
		return f.Chmod(0o644)
	})
	if filling != nil {
		err = filling
	}
	// Not durable yet: the link in the tree will be made so (P1).
	return err == nil, err
}

// fillFrames reads the contents of a package.
func fillFrames(f *os.File, layout *frames.Layout, list *repo.FileList, reader *rpmfile.Reader) (err error) {
	m, err := frames.NewMaker(layout, f)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	for {
		e, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return m.Finish()
		}
		if err != nil {
			return err
		}
		if !e.Content {
			continue
		}
		file := &list.Files[e.Index]
		if err := m.Add(repo.Object{Digest: file.Digest, Size: file.Size}, reader); err != nil {
			return err
		}
	}
}

// framesPrefix starts the names of the session's frames; the digits of their
// blob's digest follow.
const framesPrefix = "frames-"

// framesFile is where the session's frames of a blob are made.
func framesFile(dir string, blob repo.Digest) string {
	return filepath.Join(dir, framesPrefix+blob.Hex())
}

// framesOf returns where in the tree a file of a session belongs that is the
// frames of a blob.
func framesOf(name string) (path string, ok bool) {
	digits, ok := strings.CutPrefix(name, framesPrefix)
	if !ok {
		return "", false
	}
	blob, err := repo.ParseHex(digits)
	return repo.FramesPath(blob), err == nil
}
