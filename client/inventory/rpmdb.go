package inventory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path"
	"strings"

	"stork/repo"
)

// held is a capability of a package in the guest's rpm database.
type held struct {
	nevra string
	cap   repo.Capability
}

// databasePaths are where rpm keeps its database, in all of its forms.
var databasePaths = []string{
	"/var/lib/rpm/rpmdb.sqlite", "/var/lib/rpm/Packages.db", "/var/lib/rpm/Packages",
	"/usr/lib/sysimage/rpm/rpmdb.sqlite", "/usr/lib/sysimage/rpm/Packages.db", "/usr/lib/sysimage/rpm/Packages",
}

const (
	maxArguments = 300      // names in one call of rpm
	maxRPMOutput = 64 << 20 // bytes
)

// askRPM fills the cache for names from the guest's rpm database, through the
// rpm tool. Without a database, or without the tool, there is nothing.
func (i *Inventory) askRPM(ctx context.Context, r root, names []string) error {
	st, dir := database(r)
	if i.cache.rpm == nil || st != i.cache.rpmStamp {
		i.cache.rpm, i.cache.rpmStamp = map[string][]held{}, st
	}
	if st == (stamp{}) {
		return nil
	}
	var unknown []string
	for _, name := range names {
		if _, ok := i.cache.rpm[name]; !ok && askable(name) {
			unknown = append(unknown, name)
		}
	}
	for len(unknown) > 0 {
		n := min(len(unknown), maxArguments)
		out, err := i.rpm(ctx, append([]string{"--dbpath", dir, "-q", "--qf", providesFormat, "--whatprovides"}, unknown[:n]...))
		if errors.Is(err, exec.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, name := range unknown[:n] {
			i.cache.rpm[name] = nil
		}
		for _, h := range parseProvidesOutput(out) {
			if _, asked := i.cache.rpm[h.cap.Name]; asked && len(i.cache.rpm[h.cap.Name]) < maxNames {
				i.cache.rpm[h.cap.Name] = append(i.cache.rpm[h.cap.Name], h)
			}
		}
		unknown = unknown[n:]
		i.cache.changed = true
	}
	return nil
}

// askable leaves out what rpm would take for an option or more than one word.
func askable(name string) bool {
	return name != "" && name[0] != '-' && !strings.ContainsAny(name, " \t\n\x00")
}

// database returns the state of the guest's rpm database and its directory,
// which rpm is told: Debian's rpm looks in the user's home otherwise. The zero
// stamp means that there is none. SQLite's changes may still be in the
// write-ahead log.
func database(r root) (sum stamp, dir string) {
	for _, name := range databasePaths {
		s := r.stampOf(name)
		if s.size == 0 {
			continue
		}
		if wal := r.stampOf(name + "-wal"); wal.size > 0 {
			s.size += wal.size
			s.mtime = max(s.mtime, wal.mtime)
		}
		return s, path.Dir(name)
	}
	return stamp{}, ""
}

const providesFormat = `P\t%{NAME}-%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}.%{ARCH}\n` +
	`[C\t%{PROVIDENAME}\t%{PROVIDEFLAGS:depflags}\t%{PROVIDEVERSION}\n]`

// rpm runs the rpm tool on the guest's database. That it found nothing is no
// failure.
func (i *Inventory) rpm(ctx context.Context, args []string) ([]byte, error) {
	if i.root != "/" {
		args = append([]string{"--root", i.root}, args...)
	}
	cmd := exec.CommandContext(ctx, i.rpmTool, args...)
	cmd.Env = []string{"LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/nonexistent"}
	out := &bounded{max: maxRPMOutput}
	cmd.Stdout = out
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("cannot ask the guest's rpm database: %w", ctx.Err())
	case errors.As(err, &exit) && exit.Exited():
		return out.Bytes(), nil
	case err != nil:
		return nil, fmt.Errorf("cannot ask the guest's rpm database: %w", err)
	}
	return out.Bytes(), nil
}

// bounded is a buffer that takes no more than max bytes.
type bounded struct {
	bytes.Buffer
	max int
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > b.max {
		return 0, errors.New("too much output")
	}
	return b.Buffer.Write(p)
}

// parseProvidesOutput reads the lines of providesFormat. Lines of another
// form are rpm's messages.
func parseProvidesOutput(out []byte) []held {
	var list []held
	var nevra string
	seen := map[held]bool{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		switch {
		case len(fields) == 2 && fields[0] == "P":
			nevra = fields[1]
		case len(fields) == 4 && fields[0] == "C" && nevra != "":
			text := fields[1]
			if op := strings.TrimSpace(fields[2]); op != "" && fields[3] != "" {
				text += " " + op + " " + fields[3]
			}
			c, err := repo.ParseCapability(text)
			if h := (held{nevra, c}); err == nil && !seen[h] {
				seen[h] = true
				list = append(list, h)
			}
		}
	}
	return list
}
