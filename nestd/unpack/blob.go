package unpack

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"

	"stork/repo"
)

// checkBlob reads the whole blob and compares it with its digest. Only after
// a failure somebody needs to know: a package that was unpacked has the
// signed record, and every file in it the signed digest.
func checkBlob(ctx context.Context, blob *os.File, want repo.Object) error {
	h := sha256.New()
	n, err := io.Copy(h, &interruptible{ctx, io.NewSectionReader(blob, 0, want.Size+1)})
	switch {
	case err != nil:
		return fmt.Errorf("cannot read blob: %w", err)
	case n > want.Size:
		return fmt.Errorf("%w: over %d bytes", ErrBlob, want.Size)
	case n < want.Size:
		return fmt.Errorf("%w: %d bytes instead of %d", ErrBlob, n, want.Size)
	}
	if got := repo.Digest(h.Sum(nil)); got != want.Digest {
		return fmt.Errorf("%w: digest is %s instead of %s", ErrBlob, got, want.Digest)
	}
	return nil
}

// interruptible is a reader that ends with its context.
type interruptible struct {
	ctx context.Context
	r   io.Reader
}

// Read implements [io.Reader].
func (i *interruptible) Read(p []byte) (int, error) {
	if err := i.ctx.Err(); err != nil {
		return 0, context.Cause(i.ctx)
	}
	return i.r.Read(p)
}
