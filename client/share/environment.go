package share

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"stork/repo"
)

// Environment is what a guest whose method is [Overlay] has mounted: the
// merged trees of its packages, below its own directories. It is stored in
// the guest's state, beside what each package has. The zero value is none.
//
// For [Change] only ID, Trees and Upper are filled in; the rest is for
// [MakePlan] to find out: see [Element].
type Environment struct {
	ID    repo.Digest `json:"id,omitzero"`
	Mark  string      `json:"mark,omitempty"`  // tells its mounts from earlier ones of the same environment, if it was mounted anew
	Trees []string    `json:"trees,omitempty"` // in the guest's view, topmost first
	Upper string      `json:"upper,omitempty"` // a directory of the guest's own in the view, where its root is an overlay
	Roots []string    `json:"roots,omitempty"` // the guest's directories on which it is mounted
	Dirs  []string    `json:"dirs,omitempty"`  // directories at or below Roots that stork made in the guest's own tree
	Own   []string    `json:"own,omitempty"`   // the guest's own files, which were the same already and stay
	Links []Link      `json:"links,omitempty"` // symlinks in the guest's root directory
}

// maxTrees is how many trees an environment has at most.
const maxTrees = 16

// maxMark is how long a mark is at most: it is a plan's tag.
const maxMark = 32

// None reports whether there is no environment.
func (e *Environment) None() bool { return e == nil || e.ID.IsZero() }

// source is what the kernel lists as the device of the environment's mounts.
func (e *Environment) source() string {
	if e.Mark == "" {
		return sourcePrefix + e.ID.Hex()
	}
	return sourcePrefix + e.ID.Hex() + "+" + e.Mark
}

const sourcePrefix = "stork:"

func (e *Environment) roots() []string {
	if e.None() {
		return nil
	}
	return e.Roots
}

// covers reports whether p is, or lies below, a directory on which the
// environment is mounted.
func (e *Environment) covers(p string) bool { return inTrees(e.roots(), p) }

// Validate holds what was read from a file to the rules that planning keeps.
func (e *Environment) Validate() error {
	if len(e.Trees) > maxTrees {
		return fmt.Errorf("an environment of %d trees", len(e.Trees))
	}
	if strings.ContainsFunc(e.Mark, func(r rune) bool { return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') }) || len(e.Mark) > maxMark {
		return fmt.Errorf("an environment with the mark %.40q", e.Mark)
	}
	paths := slices.Concat(e.Trees, e.Roots, e.Dirs, e.Own)
	if e.Upper != "" {
		paths = append(paths, e.Upper)
	}
	for _, l := range e.Links {
		paths = append(paths, l.Path)
	}
	for _, p := range paths {
		if err := repo.CheckPath(p); err != nil {
			return err
		}
	}
	for _, p := range e.Roots {
		if path.Dir(p) != "/" {
			return fmt.Errorf("%s is not in the root directory", p)
		}
	}
	return nil
}

// Aliases returns the symlinks in the guest's root directory that lead to
// directories, as /bin to /usr/bin in most systems: an environment must have
// what its packages have there below the target. [MakePlan] says with an
// [AliasError] if there are more.
func (r *Root) Aliases() (map[string]string, error) {
	dir, err := r.plain("/", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, fmt.Errorf("cannot list the guest's root directory: %w", err)
	}
	defer dir.Close()
	list, err := dir.ReadDir(-1)
	if err != nil {
		return nil, fmt.Errorf("cannot list the guest's root directory: %w", err)
	}
	aliases := map[string]string{}
	for _, d := range list {
		p := "/" + d.Name()
		if d.Type() != os.ModeSymlink || inTrees(privateTrees, p) {
			continue
		}
		if target, ok := r.alias(p); ok {
			aliases[p] = target
		}
	}
	return aliases, nil
}

// alias returns the directory that a symlink leads to, if files may be shared
// there.
func (r *Root) alias(p string) (string, bool) {
	f, err := r.follow(p, unix.O_DIRECTORY)
	if err != nil {
		return "", false
	}
	defer f.Close()
	target, err := r.nameOf(f)
	return target, err == nil && target != "/" && !inTrees(privateTrees, target)
}

// AliasError says that the guest has symlinks where packages have
// directories. The environment has to be asked for again with these aliases
// added to those it was asked for with.
type AliasError struct {
	Aliases map[string]string // symlink → directory
}

// Error implements error.
func (e *AliasError) Error() string {
	return fmt.Sprintf("the environment does not take into account that %s is a symlink in the guest", sortedKeys(e.Aliases)[0])
}
