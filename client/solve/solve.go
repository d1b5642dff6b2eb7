package solve

import (
	"context"
	"errors"
)

// Solve finds the transaction that does the request's jobs. The error is an
// [*Unsolvable] if there is none, else that of provider or system. A nil
// system has nothing.
func Solve(ctx context.Context, request Request, provider Provider, system System) (*Transaction, error) {
	return nil, errors.ErrUnsupported
}
