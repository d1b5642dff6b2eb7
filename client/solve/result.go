package solve

import "strings"

// Transaction is what has to be done. A package stands in exactly one of the
// lists.
type Transaction struct {
	Install   []Item        // new, in the order of installation
	Upgrade   []Replacement // newer or older versions, and what replaces an obsoleted package
	Reinstall []*Package    // the available packages
	Remove    []Item        // goes without a successor, in the order of removal
	Steps     []Step        // all of it in order
	Satisfied []Spec        // install jobs that needed nothing, for it is there
	Weak      []Missing     // recommendations that could not be followed
}

// Empty reports whether nothing is to be done.
func (t *Transaction) Empty() bool { return len(t.Steps) == 0 }

// Item is one package and why it comes, or had come.
type Item struct {
	Package *Package
	Reason  Reason
	For     *Package // the package that asked for it, nil if the user did
}

// Replacement is a package and what it takes the place of: its own other
// versions and what it obsoletes.
type Replacement struct {
	Old    []*Package
	New    *Package
	Reason Reason // that of the old package
}

// Step is one element of the order. Removals of what a package replaces
// belong to its step.
type Step struct {
	Action  Action     // Install, Upgrade, Reinstall or Remove
	Package *Package   // what comes; for Remove, what goes
	Old     []*Package // Upgrade: what goes with it
}

// Missing is a weak dependency that is not followed, and why.
type Missing struct {
	Package     *Package
	Requirement string
}

// Unsolvable says that no transaction can do what was asked.
type Unsolvable struct {
	Problems    []Problem  `json:"problems"`
	WouldRemove []*Package `json:"-"` // what AllowErasing would remove besides what was asked
}

// Problem is one set of demands that exclude each other.
type Problem struct {
	Lines []Line `json:"lines"`
}

// Line is one demand, or one fact that stands against it.
type Line struct {
	Kind        LineKind `json:"kind"`
	Package     string   `json:"package,omitempty"`     // whose demand it is
	Requirement string   `json:"requirement,omitempty"` // or capability, or spec
	Others      []string `json:"others,omitempty"`      // packages that are meant by it
	Text        string   `json:"text"`                  // the line in words
}

// LineKind is the machine form of what a line says. Kinds are only ever added.
type LineKind string

// The kinds of line.
const (
	NoMatch         LineKind = "no-match"         // the spec names nothing
	WrongArch       LineKind = "wrong-arch"       // the spec names only packages of other architectures
	NotInstalled    LineKind = "not-installed"    // the spec names nothing installed
	Wanted          LineKind = "wanted"           // the job asks for it
	Unwanted        LineKind = "unwanted"         // the job removes it
	NotBest         LineKind = "not-best"         // the newest version is asked for
	NothingProvides LineKind = "nothing-provides" // nothing at all provides it
	WrongVersion    LineKind = "wrong-version"    // it exists in other versions only
	Needs           LineKind = "needs"            // a requirement
	ConflictsWith   LineKind = "conflicts"        // a conflict with another package
	SystemConflict  LineKind = "system-conflict"  // a conflict with what the guest has
	ObsoletedBy     LineKind = "obsoletes"        // one replaces the other
	SameName        LineKind = "same-name"        // two versions of one package
	Kept            LineKind = "kept"             // an installed package would have to go
	OtherPublisher  LineKind = "other-publisher"  // a successor from somebody else
	Older           LineKind = "older"            // a downgrade
	Unreadable      LineKind = "unreadable"       // a dependency that can not be understood
)

// Error returns every problem in words.
func (u *Unsolvable) Error() string {
	var b strings.Builder
	b.WriteString("cannot find a set of packages that fits")
	for i, p := range u.Problems {
		for j, line := range p.Lines {
			switch {
			case i == 0 && j == 0:
				b.WriteString(": ")
			case j == 0:
				b.WriteString("\n")
			default:
				b.WriteString("; ")
			}
			b.WriteString(line.Text)
		}
	}
	return b.String()
}
