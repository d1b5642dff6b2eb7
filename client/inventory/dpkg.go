package inventory

import (
	"bytes"
	"strings"

	"stork/repo"
)

const (
	statusPath = "/var/lib/dpkg/status"
	maxStatus  = 256 << 20 // bytes
	maxNames   = 500_000   // packages and provides
)

// readStatus fills the cache from dpkg's database if that has changed.
func (i *Inventory) readStatus(r root) {
	st := r.stampOf(statusPath)
	if i.cache.dpkg != nil && st == i.cache.dpkgStamp {
		return
	}
	i.cache.dpkg, i.cache.dpkgStamp = map[string][]string{}, st
	if st == (stamp{}) {
		return
	}
	i.cache.changed = true
	if b, err := r.read(statusPath, maxStatus); err == nil {
		i.cache.dpkg = parseStatus(b)
	}
}

// parseStatus reads the paragraphs of dpkg's status file (deb-control(5)) and
// returns what the installed packages provide, by name, with Debian's
// versions; an empty one stands for none.
func parseStatus(b []byte) map[string][]string {
	out := make(map[string][]string, 1024)
	var name, version, status, provides []byte
	total := 0
	put := func(name, version string) {
		if total++; total <= maxNames && !strings.ContainsFunc(name+version, isSpace) {
			out[name] = append(out[name], version)
		}
	}
	finish := func() {
		if len(name) > 0 && isInstalled(status) {
			put(string(name), string(version))
			parseProvides(string(provides), put)
		}
		name, version, status, provides = nil, nil, nil, nil
	}
	for len(b) > 0 {
		line := b
		if end := bytes.IndexByte(b, '\n'); end >= 0 {
			line, b = b[:end], b[end+1:]
		} else {
			b = nil
		}
		if len(line) == 0 {
			finish()
			continue
		}
		switch line[0] {
		case 'P':
			take(line, "Package:", &name)
			take(line, "Provides:", &provides)
		case 'V':
			take(line, "Version:", &version)
		case 'S':
			take(line, "Status:", &status)
		}
	}
	finish()
	return out
}

// isSpace also holds for control characters: no name has them, and the
// cache's lines could not carry them.
func isSpace(r rune) bool { return r <= ' ' || r == 0x7f }

func take(line []byte, field string, value *[]byte) {
	if len(line) > len(field) && string(line[:len(field)]) == field {
		*value = bytes.TrimSpace(line[len(field):])
	}
}

// isInstalled reports whether a status such as "install ok installed" is that
// of a package whose files are there and which is configured.
func isInstalled(status []byte) bool {
	at := bytes.LastIndexByte(status, ' ')
	switch string(status[at+1:]) {
	case "installed", "triggers-awaited", "triggers-pending":
		return at >= 0
	}
	return false
}

// parseProvides reads "a, b (= 1.2)".
func parseProvides(s string, put func(name, version string)) {
	for one := range strings.SplitSeq(s, ",") {
		name, version, versioned := strings.Cut(strings.TrimSpace(one), " ")
		name, _, _ = strings.Cut(name, ":") // "name:any"
		if name == "" {
			continue
		}
		if versioned {
			version = strings.TrimSpace(strings.TrimPrefix(strings.Trim(version, "()"), "="))
		}
		put(name, version)
	}
}

// upstream returns the middle part of "[epoch:]upstream[-revision]", as rpm's
// capabilities have it: Debian's epochs and revisions mean nothing to a
// package from elsewhere. What rpm could not compare becomes no version.
func upstream(version string) repo.EVR {
	if _, after, ok := strings.Cut(version, ":"); ok {
		version = after
	}
	if at := strings.LastIndexByte(version, '-'); at >= 0 {
		version = version[:at]
	}
	evr, err := repo.ParseEVR(strings.NewReplacer("-", ".", ":", ".").Replace(version))
	if err != nil {
		return repo.EVR{}
	}
	return evr
}
