package cli

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"stork/repo/internal/home"
	"stork/repo/program"
)

// defaultDir is where a repository is that nobody says anything else of.
const defaultDir = "/var/lib/stork-repo"

// location is the flag that says which repository is meant.
type location struct {
	Dir string `help:"The repository's directory. Default: the current one if it is a repository's, else /var/lib/stork-repo." env:"STORK_REPO" placeholder:"DIR"`
}

// open opens the repository that is meant.
func (l location) open(env *environment) (*home.Home, error) { return openHome(l.Dir, env) }

func openHome(dir string, env *environment) (*home.Home, error) {
	if dir == "" {
		dir = defaultDir
		if home.Is(".") {
			dir = "."
		}
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot open repository: %w", err)
	}
	h, err := home.Open(dir, env.disk, env.now)
	if err != nil {
		return nil, err
	}
	return h, checkUser(dir)
}

// checkUser refuses to write as root into another user's repository: the
// server, which runs as that user, could not read what comes of it.
func checkUser(dir string) error {
	uid, err := home.Owner(dir)
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 || uid == 0 {
		return nil
	}
	name := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(name); err == nil {
		name = u.Username
	}
	return &program.Error{
		Status: exitState,
		Err:    fmt.Errorf("cannot work as root in %s, which belongs to %s", dir, name),
		Hint:   fmt.Sprintf("Run the command as that user: sudo -u %s stork-repo …", name),
	}
}

// offline is the flag that says where the offline keys are.
type offline struct {
	Keys string `help:"The directory with the root and targets keys. Default: where init made them." placeholder:"DIR"`
}

// dir returns the directory with the offline keys.
func (o offline) dir(h *home.Home) (string, error) {
	dir := o.Keys
	if dir == "" {
		dir = h.OfflineKeys
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return "", fmt.Errorf("%w: %s is not there", errNoKeys, dir)
	}
	return dir, nil
}

// consent is the flags of commands that take something away.
type consent struct {
	DryRun bool `help:"Only say what would be done." short:"n"`
	Yes    bool `help:"Do not ask." short:"y"`
}

// given says what would happen, asks if need be, and reports whether to go
// on.
func (c consent) given(streams program.Streams, what string) (bool, error) {
	if c.DryRun {
		_, err := fmt.Fprintf(streams.Out, "Would %s.\n", what)
		return false, err
	}
	if c.Yes {
		return true, nil
	}
	return streams.Confirm("This will " + what + ". Go on?")
}

// count is a number with the right form of its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}
