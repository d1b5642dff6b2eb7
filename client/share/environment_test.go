package share

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"stork/repo"
)

// treeFile is one path of a merged tree.
type treeFile struct {
	dir    bool
	mode   fs.FileMode
	source string // file in a layer
	link   string
}

// merge is what a nest makes of layers: everything but private files.
func (w *world) merge(layers []Layer, aliases map[string]string) map[string]treeFile {
	w.t.Helper()
	all := map[string]treeFile{}
	for _, l := range layers {
		private := map[string]bool{}
		for _, f := range l.Private {
			private[f.Path] = f.Type != repo.Dir
		}
		w.must(filepath.WalkDir(l.View, func(p string, d fs.DirEntry, err error) error {
			name := strings.TrimPrefix(p, l.View)
			if err != nil || name == "" || private[name] {
				return err
			}
			info, err := d.Info()
			f := treeFile{dir: d.IsDir(), mode: info.Mode().Perm()}
			if !f.dir {
				f.source = p
			}
			if d.Type()&fs.ModeSymlink != 0 {
				f.link, err = os.Readlink(p)
			}
			for from, to := range aliases {
				if name == from {
					return err
				}
				if rest, ok := strings.CutPrefix(name, from+"/"); ok {
					name = to + "/" + rest
				}
			}
			if have, ok := all[name]; ok && f.dir && f.mode == 0o755 {
				f = have
			}
			all[name] = f
			return err
		}))
	}
	for name := range maps.Clone(all) { // what an alias leads to
		for dir := filepath.Dir(name); dir != "/"; dir = filepath.Dir(dir) {
			if _, ok := all[dir]; !ok {
				all[dir] = treeFile{dir: true, mode: 0o755}
			}
		}
	}
	return all
}

// environment builds the trees of an environment, as a delta if something is
// mounted.
func (w *world) environment(layers []Layer, aliases map[string]string) (*Environment, map[string]treeFile) {
	w.t.Helper()
	if len(layers) == 0 {
		return nil, nil
	}
	var id []byte
	for _, l := range layers {
		id = append(id, l.ID[:]...)
	}
	for _, from := range slices.Sorted(maps.Keys(aliases)) {
		id = append(id, from+aliases[from]...)
	}
	e := &Environment{ID: repo.DigestOf(id), Upper: w.upper}
	want := w.merge(layers, aliases)
	base := map[string]treeFile{}
	if !w.env.None() && len(w.env.Trees) < 3 {
		base = w.merges
		e.Trees = w.env.Trees
	}
	w.layers++
	view := filepath.Join(w.view, fmt.Sprintf("%s-%d", e.ID.Hex()[:16], w.layers))
	w.must(os.MkdirAll(view, 0o755))
	tree := w.raw(view)
	for _, name := range slices.Sorted(maps.Keys(want)) {
		w.put(tree, name, want, base)
	}
	for _, name := range slices.Sorted(maps.Keys(base)) {
		_, kept := want[name]
		parent, ok := want[filepath.Dir(name)]
		if kept || filepath.Dir(name) != "/" && !(ok && parent.dir) {
			continue
		}
		w.directories(tree, filepath.Dir(name), want)
		w.must(unix.Mknod(filepath.Join(tree, name), unix.S_IFCHR, 0))
	}
	w.must(unix.Mount(view, view, "", unix.MS_BIND, ""))
	w.must(unix.Mount("", view, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	e.Trees = append([]string{view}, e.Trees...)
	return e, want
}

// directories makes a directory and those above it as they are to be.
func (w *world) directories(tree, name string, want map[string]treeFile) {
	w.t.Helper()
	if name == "/" {
		return
	}
	w.directories(tree, filepath.Dir(name), want)
	at := filepath.Join(tree, name)
	w.must(os.MkdirAll(at, 0o755))
	w.must(os.Chmod(at, want[name].mode))
}

func (w *world) put(tree, name string, want, base map[string]treeFile) {
	w.t.Helper()
	f := want[name]
	if base[name] == f {
		return
	}
	at := filepath.Join(tree, name)
	w.directories(tree, filepath.Dir(name), want)
	switch {
	case f.dir:
		w.directories(tree, name, want)
	case f.link != "":
		w.must(os.Symlink(f.link, at))
	default:
		w.must(os.Link(w.raw(f.source), at))
	}
}

// raw is a path of the view below its read-only mounts.
func (w *world) raw(p string) string {
	raw := filepath.Join(w.dir, "raw")
	if _, err := os.Stat(raw); err != nil {
		w.must(os.Mkdir(raw, 0o755))
		w.must(unix.Mount(w.dir, raw, "", unix.MS_BIND, ""))
	}
	return filepath.Join(raw, strings.TrimPrefix(p, w.dir))
}

// planOverlay has the environment built of what is installed afterwards.
func (w *world) planOverlay(c Change) (*Plan, error) {
	w.t.Helper()
	var layers []Layer
	for _, p := range w.placed {
		if !slices.Contains(c.Remove, p.ID) {
			layers = append(layers, w.all[p.ID])
		}
	}
	layers = append(layers, c.Add...)
	root := w.open(nil)
	aliases, err := root.Aliases()
	w.must(err)
	c.Now = &w.env
	for {
		c.Next, w.merges = w.environment(layers, aliases)
		plan, err := MakePlan(context.Background(), root, w.placed, c)
		var more *AliasError
		if !errors.As(err, &more) {
			return plan, err
		}
		maps.Copy(aliases, more.Aliases)
	}
}
