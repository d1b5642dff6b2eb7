package store

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"stork/repo"
)

// TestMergeRandom: for packages and sets of them as they come, a stack of
// delta trees shows what the whole tree of the last set shows, and there is a
// conflict for the one if there is one for the other.
func TestMergeRandom(t *testing.T) {
	t.Parallel()
	needRoot(t)
	rapid.Check(t, func(r *rapid.T) {
		temp, err := os.MkdirTemp("/dev/shm", "stork-merge-*")
		if err != nil {
			r.Skip(err)
		}
		defer os.RemoveAll(temp)
		s := open(t, temp+"/store", nil)
		defer s.Close()
		recovered(t, s, nil)
		packs := drawPacks(t, r, s)
		var aliases map[string]string
		if rapid.Bool().Draw(r, "aliases") {
			aliases = map[string]string{"/a": "/c/b", "/b/a": "/b/c"}
		}
		var stack []*tree
		var has []*pack
		for step := range rapid.IntRange(1, 5).Draw(r, "steps") {
			next := drawSet(r, packs)
			whole, wantErr := tryMerge(t, s, fmt.Sprint("whole ", step), Merge{Add: membersOf(next...), Aliases: aliases})
			m := Merge{Aliases: aliases, Base: idsOf(stack)}
			for _, p := range packs {
				before, after := slices.Contains(has, p), slices.Contains(next, p)
				switch {
				case before && after:
					m.Keep = append(m.Keep, memberOf(p))
				case before:
					m.Drop = append(m.Drop, memberOf(p))
				case after:
					m.Add = append(m.Add, memberOf(p))
				}
			}
			top, err := tryMerge(t, s, fmt.Sprint("delta ", step), m)
			var conflict *ConflictError
			if (wantErr == nil) != (err == nil) || err != nil && !errors.As(err, &conflict) {
				r.Fatalf("whole: %v; delta: %v", wantErr, err)
			}
			if err != nil {
				continue // the guest stays where it is
			}
			stack, has = append([]*tree{top}, stack...), next
			if diff := cmp.Diff(shown(t, s, whole), shown(t, s, stack...)); diff != "" {
				r.Fatalf("step %d (-whole +stack):\n%s", step, diff)
			}
			for _, problem := range s.CheckMerged(t.Context(), top.id, top.merge) {
				r.Error(problem)
			}
		}
	})
}

func idsOf(stack []*tree) []repo.Digest {
	var ids []repo.Digest
	for _, tr := range stack {
		ids = append(ids, tr.id)
	}
	return ids
}

// drawPacks installs some packages of a few paths, so that they meet often.
func drawPacks(t *testing.T, r *rapid.T, s *Store) []*pack {
	var packs []*pack
	seen := map[repo.Digest]bool{}
	for n := range rapid.IntRange(1, 6).Draw(r, "packages") {
		entries := map[string]repo.File{}
		for range rapid.IntRange(1, 6).Draw(r, "files") {
			path := ""
			for range rapid.IntRange(1, 3).Draw(r, "depth") {
				path += "/" + rapid.SampledFrom([]string{"a", "b", "c"}).Draw(r, "name")
			}
			entries[path] = drawFile(r, path)
		}
		var list []repo.File
		for _, path := range slices.Sorted(maps.Keys(entries)) {
			// Nothing may lie below what is no directory.
			if !slices.ContainsFunc(list, func(f repo.File) bool { return f.Type != repo.Dir && below(path, f.Path) }) {
				list = append(list, entries[path])
			}
		}
		list = append(list, repo.File{Path: fmt.Sprintf("/z/%d", n), Mode: 0o644})
		if p := newPack(t, list...); !seen[p.id] {
			seen[p.id] = true
			install(t, s, p)
			packs = append(packs, p)
		}
	}
	return packs
}

func drawFile(r *rapid.T, path string) repo.File {
	switch rapid.IntRange(0, 9).Draw(r, "kind") {
	case 0:
		return symlink(path, "target")
	case 1:
		return config(path)
	case 2:
		return dir(path, rapid.SampledFrom([]uint32{0o755, 0o700, 0o750}).Draw(r, "mode"))
	case 3, 4, 5:
		return dir(path, 0o755)
	}
	return regular(path, rapid.SampledFrom([]string{"same", "same", "same", "else"}).Draw(r, "content"))
}

func drawSet(r *rapid.T, packs []*pack) []*pack {
	var set []*pack
	for i, p := range packs {
		if rapid.Bool().Draw(r, fmt.Sprint("has ", i)) {
			set = append(set, p)
		}
	}
	return set
}
