package share

import (
	"slices"

	"stork/repo"
)

// Placed is what one package has in a guest. Paths are the guest's, with all
// symlinks of directories resolved. It is stored in the guest's state.
type Placed struct {
	ID     repo.Digest `json:"id"`
	Method Method      `json:"method"`
	Mounts []Mount     `json:"mounts,omitempty"`
	Dirs   []Dir       `json:"dirs,omitempty"`  // directories that stork made and this package uses
	Links  []Link      `json:"links,omitempty"` // symlinks
	Files  []File      `json:"files,omitempty"` // private files, fifos and nodes
}

// NeedsView reports whether the package's layer has to be attached for it to
// be seen, or to be restored and checked. The environment's trees are beside
// that.
func (p *Placed) NeedsView() bool {
	return len(p.Mounts) > 0 || slices.ContainsFunc(p.Links, func(l Link) bool { return l.Source != "" })
}

// Mount is one mount of a layer.
type Mount struct {
	Target string `json:"target"`
	Source string `json:"source"`        // path in the layer
	Dir    bool   `json:"dir,omitempty"` // a whole directory
	Own    bool   `json:"own,omitempty"` // the guest's own file, of the same content, lies below and comes back
}

// Dir is a directory that stork made because the guest lacked it.
type Dir struct {
	Path  string `json:"path"`
	Mode  uint32 `json:"mode"`
	User  string `json:"user,omitempty"`  // empty: root
	Group string `json:"group,omitempty"` // empty: root
}

// Link is a symlink.
type Link struct {
	Path   string `json:"path"`
	Target string `json:"target"`
	Source string `json:"source,omitempty"` // path in the layer, if it leads into the view
	Dir    bool   `json:"dir,omitempty"`    // to a whole directory
	Own    bool   `json:"own,omitempty"`    // the guest's own, which was the same already
}

// File is a file that is the guest's own: a private one, or a copy.
type File struct {
	Path   string          `json:"path"`
	Type   repo.FileType   `json:"type"`
	Mode   uint32          `json:"mode"`
	User   string          `json:"user,omitempty"`
	Group  string          `json:"group,omitempty"`
	Flags  []repo.FileFlag `json:"flags,omitempty"`
	Digest repo.Digest     `json:"digest,omitzero"` // as packaged
	Size   int64           `json:"size,omitempty"`
	Link   string          `json:"link,omitempty"` // private symlinks
	Rdev   uint32          `json:"rdev,omitempty"`
	Own    bool            `json:"own,omitempty"` // the guest's own, which was the same already
}

// Has reports whether the file carries flag.
func (f *File) Has(flag repo.FileFlag) bool { return slices.Contains(f.Flags, flag) }

// Without returns what is left of a package once a new one has taken over the
// paths that both have. Directories are used by both.
func (p *Placed) Without(taken *Placed) Placed {
	paths := map[string]bool{}
	for i := range taken.Mounts {
		paths[taken.Mounts[i].Target] = true
	}
	for i := range taken.Dirs {
		paths[taken.Dirs[i].Path] = true
	}
	for i := range taken.Links {
		paths[taken.Links[i].Path] = true
	}
	for i := range taken.Files {
		paths[taken.Files[i].Path] = true
	}
	left := *p
	left.Mounts = slices.DeleteFunc(slices.Clone(p.Mounts), func(m Mount) bool { return paths[m.Target] })
	left.Links = slices.DeleteFunc(slices.Clone(p.Links), func(l Link) bool { return paths[l.Path] })
	left.Files = slices.DeleteFunc(slices.Clone(p.Files), func(f File) bool { return paths[f.Path] })
	return left
}

// Layer is a package to be placed.
type Layer struct {
	ID      repo.Digest
	Name    string // for messages: name-version-release.arch
	View    string // the layer's tree, in the guest's view
	Private []repo.File
}

// Views tells where layers are attached. Ids that can not be attached are
// an error.
type Views func(ids []repo.Digest) (map[repo.Digest]string, error)

// Problem is a difference between a guest and what was placed in it.
type Problem struct {
	ID     repo.Digest
	Path   string
	What   What
	Config bool   // a configuration file: the guest's owner may change it
	Detail string // a few words for people
}

// What is wrong with a path.
type What string

// The kinds of problem.
const (
	Missing   What = "missing"
	Unmounted What = "unmounted" // stork mount brings it back
	Replaced  What = "replaced"  // something else is there
	Changed   What = "changed"   // content differs from what was packaged
	Metadata  What = "metadata"  // mode or owner differs
)
