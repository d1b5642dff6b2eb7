package cli

import (
	"errors"
	"fmt"
	"os/user"
	"strconv"
)

// childIDs are whom fetcher and unpacker run as.
type childIDs struct{ uid, gid int }

// nobody is the kernel's overflow user, which owns nothing.
const nobody = 65534

// childUser looks a user up. Without a name it is stork, if the host has
// one, which keeps its processes apart from everybody else's nobody.
func childUser(name string) (childIDs, error) {
	wanted := name
	if wanted == "" {
		wanted = "stork"
	}
	u, err := user.Lookup(wanted)
	if name == "" && errors.As(err, new(user.UnknownUserError)) {
		return childIDs{nobody, nobody}, nil
	}
	if err != nil {
		return childIDs{}, fmt.Errorf("cannot find user %s: %w", wanted, err)
	}
	uid, uidErr := strconv.Atoi(u.Uid)
	gid, gidErr := strconv.Atoi(u.Gid)
	if err := errors.Join(uidErr, gidErr); err != nil {
		return childIDs{}, fmt.Errorf("cannot find user %s: %w", wanted, err)
	}
	if uid == 0 {
		return childIDs{}, fmt.Errorf("cannot use user %s: children may not run as root", wanted)
	}
	return childIDs{uid, gid}, nil
}
