package share

import (
	"fmt"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"stork/repo"
)

// Paths lists what the layer has, under the packaged names, sorted. Ghosts
// are not in it.
func (l *Layer) Paths() ([]string, error) {
	t, err := openTree(*l, 0)
	if err != nil {
		return nil, err
	}
	defer t.close()
	var list []string
	queue := []string{"/"}
	for len(queue) > 0 {
		dir := queue[0]
		queue = queue[1:]
		entries, err := t.read(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			list = append(list, e.path)
			if e.kind == repo.Dir {
				queue = append(queue, e.path)
			}
		}
	}
	slices.Sort(list)
	return list, nil
}

// Paths lists what a package has in the guest, sorted. Shared directories are
// read; one that is not mounted now has nothing in it.
func (p *Placed) Paths(root *Root) ([]string, error) {
	var list, queue []string
	for _, d := range p.Dirs {
		list = append(list, d.Path)
	}
	for _, m := range p.Mounts {
		list = append(list, m.Target)
		if m.Dir {
			queue = append(queue, m.Target)
		}
	}
	for _, l := range p.Links {
		list = append(list, l.Path)
		if l.Dir {
			queue = append(queue, l.Path)
		}
	}
	for i := range p.Files {
		if !p.Files[i].Has(repo.Ghost) {
			list = append(list, p.Files[i].Path)
		}
	}
	for len(queue) > 0 {
		dir := queue[0]
		queue = queue[1:]
		f, err := openBelow(root.dir, dir, unix.O_RDONLY|unix.O_DIRECTORY, unix.RESOLVE_IN_ROOT)
		if missing(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("cannot list %s: %w", dir, err)
		}
		entries, err := f.ReadDir(-1)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("cannot list %s: %w", dir, err)
		}
		for _, d := range entries {
			at := path.Join(dir, d.Name())
			list = append(list, at)
			if d.IsDir() {
				queue = append(queue, at)
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}
