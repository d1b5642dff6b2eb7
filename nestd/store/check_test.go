package store

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestCheckFinds does to a layer, one after another, what Check must notice.
func TestCheckFinds(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		harm func(layer string) error
		want string
	}{
		{"content", func(l string) error { return overwrite(l+"/usr/bin/su", "Su") }, "/usr/bin/su: content is"},
		{"length", func(l string) error { return os.Truncate(l+"/usr/bin/su", 1) }, "/usr/bin/su: content is"},
		{"mode", func(l string) error { return os.Chmod(l+"/usr/bin/ping", 0o777) }, "/usr/bin/ping: mode is 0777, want 0755"},
		{"owner", func(l string) error { return os.Chown(l+"/usr/bin/su", 1, 0) }, "/usr/bin/su: owner is 1:0"},
		{"time", func(l string) error { return os.Chtimes(l+"/usr/bin/su", time.Time{}, time.Unix(2, 0)) }, "/usr/bin/su: time is 2"},
		{"capability", func(l string) error { return unix.Removexattr(l+"/usr/bin/ping", "security.capability") }, "/usr/bin/ping: extended attributes"},
		{"missing file", func(l string) error { return os.Remove(l + "/usr/bin/su") }, "/usr/bin/su: no such file"},
		{"missing link", func(l string) error { return os.Remove(l + "/usr/bin/app2") }, "/usr/bin/app2: no such file"},
		{"missing symlink", func(l string) error { return os.Remove(l + "/usr/bin/app-link") }, "/usr/bin/app-link: no such file"},
		{"missing directory", func(l string) error { return os.Remove(l + "/etc/app.d") }, "/etc/app.d: no such file"},
		{"other target", func(l string) error {
			return errors.Join(os.Remove(l+"/usr/bin/app-link"), os.Symlink("sh", l+"/usr/bin/app-link"))
		}, `/usr/bin/app-link: target is "sh"`},
		{"other type", func(l string) error {
			return errors.Join(os.Remove(l+"/usr/bin/su"), os.Mkdir(l+"/usr/bin/su", 0o755))
		}, "/usr/bin/su: is of another type"},
		{"copy", func(l string) error {
			return errors.Join(os.Remove(l+"/usr/bin/app2"), os.WriteFile(l+"/usr/bin/app2", []byte("program"), 0o755))
		}, "/usr/bin/app2: is no hard link of /usr/bin/app"},
		{"directory mode", func(l string) error { return os.Chmod(l+"/usr/lib/app", 0o777) }, "/usr/lib/app: mode is 0777"},
		{"root mode", func(l string) error { return os.Chmod(l, 0o777) }, "/: mode is 0777"},
		{"extra file", func(l string) error { return os.WriteFile(l+"/usr/bin/extra", nil, 0o755) }, "/usr/bin/extra: does not belong there"},
		{"extra directory", func(l string) error { return os.Mkdir(l+"/usr/extra", 0o755) }, "/usr/extra: does not belong there"},
		{"private file open", func(l string) error { return os.Chmod(l+"/etc/app.conf", 0o644) }, "/etc/app.conf: mode is 0644"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, p := opened(t), sample(t)
			install(t, s, p)
			layer, _ := s.Layer(p.id)
			if err := tt.harm(layer); err != nil {
				t.Fatal(err)
			}
			found := strings.Join(s.Check(t.Context(), p.id, &p.list, isPrivate), "\n")
			if !strings.Contains(found, tt.want) {
				t.Errorf("found %q, want %q", found, tt.want)
			}
		})
	}
}

// TestCheckObjectsFinds does the same to objects.
func TestCheckObjectsFinds(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		harm func(object string) error
		want string
	}{
		{"content", func(o string) error { return overwrite(o, "CONTENT 0") }, "is not what its name says"},
		{"mode", func(o string) error { return os.Chmod(o, 0o777) }, "is not what its name says"},
		{"owner", func(o string) error { return os.Chown(o, 0, 1) }, "type, owner or time differ"},
		{"attribute", func(o string) error { return unix.Setxattr(o, "user.x", []byte("y"), 0) }, "is not what its name says"},
		{"name", func(o string) error { return os.Rename(o, o[:len(o)-1]) }, "is named like no object"},
		{"no layer", func(o string) error {
			return errors.Join(os.Remove(o), os.WriteFile(o, []byte("content 0"), 0o644), os.Chtimes(o, time.Time{}, time.Unix(FixedTime, 0)))
		}, "no layer has it"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, p := opened(t), small(t, "p", 1)
			install(t, s, p)
			objects, err := s.objects()
			if err != nil {
				t.Fatal(err)
			}
			if err := tt.harm(objects[0]); err != nil {
				t.Fatal(err)
			}
			if _, found := s.CheckObjects(t.Context()); len(found) != 1 || !strings.Contains(found[0], tt.want) {
				t.Errorf("found %q, want %q", found, tt.want)
			}
		})
	}
}

// overwrite changes content and nothing else that can be seen from outside.
func overwrite(path, content string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	return errors.Join(err, f.Close(), os.Chmod(path, info.Mode()), os.Chtimes(path, time.Time{}, info.ModTime()))
}
