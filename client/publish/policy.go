package publish

import (
	"context"
	"fmt"
	"io/fs"

	"stork/repo"
	"stork/signing"
	"stork/signing/policy"
)

// Policy returns the policy that this machine signed last for an owner. The
// error wraps fs.ErrNotExist if it has signed none for this repository.
func (p *Publisher) Policy(ctx context.Context, owner repo.Role) (*policy.Policy, error) {
	l, err := p.openLocal(owner)
	if err != nil {
		return nil, err
	}
	defer l.close()
	if l.signed == nil {
		return nil, fmt.Errorf("cannot read the policy of %s: %w", owner, fs.ErrNotExist)
	}
	object, ok := l.signed.Targets[signing.PolicyTarget(owner.Publisher())]
	if !ok {
		return nil, fmt.Errorf("cannot read the policy of %s: %w", owner, fs.ErrNotExist)
	}
	b, err := l.docs.Document(ctx, object)
	if err != nil {
		return nil, fmt.Errorf("cannot read the policy of %s: %w", owner, err)
	}
	return policy.Decode(b)
}
