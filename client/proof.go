package client

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"

	"stork/nestd/api"
	"stork/repo"
	"stork/repo/index"
)

// maxDocument bounds one document of a proof, in bytes: shards are the
// largest.
const maxDocument = index.MaxShard

// Proof asks for the documents that verify packages of the index with that
// root, as far as the nest brings them together (see [api.ProofRequest]).
// Nothing is said about what they are.
func (r *Repository) Proof(ctx context.Context, root repo.Digest, packages []api.ProofPackage) ([][]byte, error) {
	request := api.ProofRequest{Index: root, Packages: packages}
	answer, err := r.caller.open(ctx, http.MethodPost, api.ProofRoute+r.root.Hex(), request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	documents, err := readDocuments(bufio.NewReaderSize(answer.Body, 64<<10), maxAnswer)
	if err != nil {
		return nil, r.caller.brokenOff(ctx, err)
	}
	return documents, nil
}

// readDocuments reads a stream of documents, each behind its length, of at
// most max bytes in all.
func readDocuments(in io.Reader, max int64) ([][]byte, error) {
	var documents [][]byte
	for {
		var head [4]byte
		if _, err := io.ReadFull(in, head[:]); errors.Is(err, io.EOF) {
			return documents, nil
		} else if err != nil {
			return nil, err
		}
		n := int64(binary.BigEndian.Uint32(head[:]))
		if max -= n + int64(len(head)); max < 0 || n > maxDocument {
			return nil, errTooLarge
		}
		// What is not there is not allocated: a length is only a claim.
		b, err := io.ReadAll(io.LimitReader(in, n))
		if err != nil {
			return nil, err
		}
		if int64(len(b)) != n {
			return nil, fmt.Errorf("cannot read a document of %d bytes: %w", n, io.ErrUnexpectedEOF)
		}
		documents = append(documents, b)
	}
}
