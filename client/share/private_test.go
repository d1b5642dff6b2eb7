package share

import (
	"testing"

	"stork/repo"
)

func TestPrivate(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		file repo.File
		want bool
	}{
		{"program", repo.File{Path: "/usr/bin/x", Type: repo.Regular, Mode: 0o755}, false},
		{"set-uid program", repo.File{Path: "/usr/bin/x", Type: repo.Regular, Mode: 0o4755}, false},
		{"root by another name", repo.File{Path: "/usr/bin/x", Type: repo.Regular, User: "daemon"}, true},
		{"group only", repo.File{Path: "/usr/bin/x", Type: repo.Regular, Group: "tty"}, true},
		{"config", repo.File{Path: "/etc/x", Type: repo.Regular, Flags: []repo.FileFlag{repo.Config}}, true},
		{"plain file in etc", repo.File{Path: "/etc/x", Type: repo.Regular}, false},
		{"ghost", repo.File{Path: "/usr/lib/x.cache", Type: repo.Regular, Flags: []repo.FileFlag{repo.Ghost}}, true},
		{"below var", repo.File{Path: "/var/lib/x", Type: repo.Regular}, true},
		{"var itself", repo.File{Path: "/var", Type: repo.Dir, Mode: 0o755}, true},
		{"name that starts like var", repo.File{Path: "/various/x", Type: repo.Regular}, false},
		{"var further down", repo.File{Path: "/opt/var/x", Type: repo.Regular}, false},
		{"kernel", repo.File{Path: "/boot/vmlinuz", Type: repo.Regular}, true},
		{"fifo", repo.File{Path: "/usr/lib/x", Type: repo.Fifo}, true},
		{"device", repo.File{Path: "/opt/null", Type: repo.Char}, true},
		{"directory", repo.File{Path: "/usr/lib/x", Type: repo.Dir, Mode: 0o755}, false},
		{"closed directory", repo.File{Path: "/usr/lib/x", Type: repo.Dir, Mode: 0o700}, false},
		{"set-gid directory", repo.File{Path: "/usr/lib/x", Type: repo.Dir, Mode: 0o2755}, true},
		{"group-writable directory", repo.File{Path: "/usr/lib/x", Type: repo.Dir, Mode: 0o775}, true},
		{"symlink", repo.File{Path: "/usr/lib/x.so", Type: repo.Symlink, Mode: 0o777, Link: "x.so.1"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := Private(&tt.file); got != tt.want {
				t.Errorf("Private(%+v) = %v, want %v", tt.file, got, tt.want)
			}
		})
	}
}
