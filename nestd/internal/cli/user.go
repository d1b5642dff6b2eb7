package cli

import (
	"errors"
	"fmt"
	"os/user"
	"strconv"

	"stork/repo/program"
)

// userIDs are a user's, such as whom fetcher and unpacker run as.
type userIDs struct{ uid, gid int }

// nobody is the kernel's overflow user, which owns nothing.
const nobody = 65534

// childUser looks a user up. Without a name it is stork, if the host has
// one, which keeps its processes apart from everybody else's nobody.
func childUser(name string) (userIDs, error) {
	wanted := name
	if wanted == "" {
		wanted = "stork"
	}
	u, err := user.Lookup(wanted)
	if name == "" && errors.As(err, new(user.UnknownUserError)) {
		return userIDs{nobody, nobody}, nil
	}
	if err != nil {
		return userIDs{}, fmt.Errorf("cannot find user %s: %w", wanted, err)
	}
	ids, err := numbers(u)
	if err == nil && ids.uid == 0 {
		err = fmt.Errorf("cannot use user %s: children may not run as root", wanted)
	}
	return ids, err
}

// lookUp looks up a user who may be given by number.
func lookUp(name string) (userIDs, error) {
	find := user.Lookup
	if _, err := strconv.Atoi(name); err == nil {
		find = user.LookupId
	}
	u, err := find(name)
	if errors.As(err, new(user.UnknownUserError)) || errors.As(err, new(user.UnknownUserIdError)) {
		err = &program.Error{Status: exitNotFound, Err: fmt.Errorf("cannot find user %s: there is none", name)}
	}
	if err != nil {
		return userIDs{}, err
	}
	return numbers(u)
}

func numbers(u *user.User) (userIDs, error) {
	uid, uidErr := strconv.Atoi(u.Uid)
	gid, gidErr := strconv.Atoi(u.Gid)
	if err := errors.Join(uidErr, gidErr); err != nil {
		return userIDs{}, fmt.Errorf("cannot find user %s: %w", u.Username, err)
	}
	return userIDs{uid, gid}, nil
}
