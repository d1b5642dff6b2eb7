package check

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	"stork/repo"
	"stork/repo/frames"
)

// frames checks that a file of frames holds the contents that the package's
// file list names, each as it must be, and nothing else.
func (c *checker) frames(ctx context.Context, p string) error {
	object, ok := c.lists[p]
	if !ok {
		return nil // a stray
	}
	text, err := documents{c}.Document(ctx, object)
	if err != nil {
		return err
	}
	list, err := repo.DecodeFileList(text)
	if err != nil {
		return err
	}
	f, err := os.Open(c.home.TreePath(p))
	if err != nil {
		return err
	}
	defer f.Close()
	layout := frames.LayoutOf(list)
	head := make([]byte, layout.IndexSize())
	if _, err := io.ReadFull(f, head); err != nil {
		return fmt.Errorf("can not be read: %w", err)
	}
	index, err := layout.Decode(head)
	if err != nil {
		return err
	}
	z, err := frames.NewInflater()
	if err != nil {
		return err
	}
	defer z.Close()
	total := layout.IndexSize()
	for content := range layout.Contents() {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := checkContent(f, z, index, content)
		if err != nil {
			return err
		}
		total += n
	}
	if info, err := f.Stat(); err != nil || info.Size() != total {
		return errors.Join(err, errors.New("has bytes that belong to no content"))
	}
	return nil
}

// checkContent hashes what the frames of a content hold, and returns how many
// bytes of the file they take.
func checkContent(f io.ReaderAt, z *frames.Inflater, index *frames.Index, content repo.Object) (taken int64, err error) {
	h := sha256.New()
	for _, frame := range index.Frames(content) {
		packed := make([]byte, frame.Length)
		if _, err := f.ReadAt(packed, frame.Offset); err != nil {
			return 0, fmt.Errorf("can not be read: %w", err)
		}
		plain, err := z.Inflate(packed, frame.Content)
		if err != nil {
			return 0, err
		}
		h.Write(plain)
		taken += frame.Length
	}
	if got := repo.Digest(h.Sum(nil)); got != content.Digest {
		return 0, fmt.Errorf("does not hold %s where it should", content.Digest)
	}
	return taken, nil
}
