package inventory

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"strings"
)

const (
	infoDir = "/var/lib/dpkg/info"
	maxList = 64 << 20 // bytes of one package's list of files
)

// Owner returns which package of the guest's own owns path, as rpm or dpkg
// name it, for messages; empty if none or unknown. It reads far more than
// [Inventory.Provided].
func (i *Inventory) Owner(ctx context.Context, name string) (string, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	r, err := openRoot(i.root)
	if err != nil {
		return "", fmt.Errorf("cannot find the owner of %s: %w", name, err)
	}
	defer r.close()
	if _, dir := database(r); dir != "" && path.IsAbs(name) {
		if owner, err := i.rpmOwner(ctx, dir, name); owner != "" || err != nil {
			return owner, err
		}
	}
	return dpkgOwner(ctx, r, name)
}

func (i *Inventory) rpmOwner(ctx context.Context, dir, name string) (string, error) {
	out, err := i.rpm(ctx, []string{"--dbpath", dir, "-q", "--qf", `P\t%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}\n`, "-f", name})
	if err != nil {
		return "", nil // no tool; dpkg may know
	}
	for line := range strings.Lines(string(out)) {
		if nevra, ok := strings.CutPrefix(strings.TrimSpace(line), "P\t"); ok {
			return nevra, nil
		}
	}
	return "", ctx.Err()
}

// dpkgOwner searches the lists of files. Those of packages from before /usr
// was merged name /bin where the path is /usr/bin, or the other way about.
func dpkgOwner(ctx context.Context, r root, name string) (string, error) {
	names, err := r.list(infoDir)
	if err != nil {
		return "", nil // no dpkg here
	}
	wanted := [][]byte{[]byte("\n" + name + "\n")}
	if short, ok := strings.CutPrefix(name, "/usr/"); ok {
		wanted = append(wanted, []byte("\n/"+short+"\n"))
	} else {
		wanted = append(wanted, []byte("\n/usr"+name+"\n"))
	}
	for _, file := range names {
		pkg, ok := strings.CutSuffix(file, ".list")
		if !ok {
			continue
		}
		if err := ctx.Err(); err != nil {
			return "", fmt.Errorf("cannot find the owner of %s: %w", name, err)
		}
		b, err := r.read(path.Join(infoDir, file), maxList)
		if err != nil {
			continue
		}
		for _, w := range wanted {
			if bytes.Contains(b, w) {
				owner, _, _ := strings.Cut(pkg, ":")
				return owner, nil
			}
		}
	}
	return "", nil
}
