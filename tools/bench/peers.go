package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// payload is the same files in the forms that the tools of today take.
type payload struct {
	rpm  string
	deb  string // made of tree, uncompressed
	tree string // a directory that rpm has installed into
}

// peer is a tool that installs a payload into an empty directory, or an
// ordinary way to do without one.
type peer struct {
	name    string
	tool    string // without it in PATH there are no figures
	prepare func(ctx context.Context, root string) error
	install func(ctx context.Context, p payload, root string) *exec.Cmd
}

// peers are measured in this order. rpm is first: the others take what it has
// installed.
var peers = []peer{
	{"rpm", "rpm", initRPM, func(ctx context.Context, p payload, root string) *exec.Cmd {
		return exec.CommandContext(ctx, "rpm", "--root", root, "-i", "--nodeps", p.rpm)
	}},
	{"dnf", "dnf", initRPM, func(ctx context.Context, p payload, root string) *exec.Cmd {
		return exec.CommandContext(ctx, "dnf", "--installroot", root, "--releasever=1", "--disablerepo=*", "--noplugins",
			"--setopt=reposdir=/nonexistent", "--setopt=cachedir="+root+"/cache", "--nogpgcheck", "-q", "-y", "install", p.rpm)
	}},
	{"dpkg", "dpkg", initDpkg, func(ctx context.Context, p payload, root string) *exec.Cmd {
		return exec.CommandContext(ctx, "dpkg", "--root="+root, "--force-all", "-i", p.deb)
	}},
	{"tar", "rpm2archive", nothing, func(ctx context.Context, p payload, root string) *exec.Cmd {
		return exec.CommandContext(ctx, "sh", "-c", `rpm2archive -n - <"$1" | tar -x -C "$2" && sync -f "$2"`, "sh", p.rpm, root)
	}},
	{"copy", "cp", nothing, func(ctx context.Context, p payload, root string) *exec.Cmd {
		return exec.CommandContext(ctx, "sh", "-c", `cp -a "$1/." "$2" && sync -f "$2"`, "sh", p.tree, root)
	}},
}

func nothing(context.Context, string) error { return nil }

func initRPM(ctx context.Context, root string) error {
	return quietly(exec.CommandContext(ctx, "rpm", "--root", root, "--initdb"))
}

func initDpkg(_ context.Context, root string) error {
	dir := filepath.Join(root, "var/lib/dpkg")
	return errors.Join(os.MkdirAll(filepath.Join(dir, "info"), 0o755), os.Mkdir(filepath.Join(dir, "updates"), 0o755),
		os.WriteFile(filepath.Join(dir, "status"), nil, 0o644))
}

func quietly(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot run %s: %w: %s", cmd.Args[0], err, out)
	}
	return nil
}

// peerRuns is how often a peer other than rpm is measured.
const peerRuns = 3

// measurePeers lets every peer that this machine has install the file once,
// below dir, and adds what it took to times.
func (l *lab) measurePeers(ctx context.Context, rpm, dir string, times map[string][]time.Duration) error {
	p := payload{rpm: rpm, tree: filepath.Join(dir, "rpm")}
	for _, peer := range peers {
		if _, err := exec.LookPath(peer.tool); err != nil || peer.name != "rpm" && len(times[peer.name]) == peerRuns {
			continue
		}
		if peer.name == "dpkg" {
			var err error
			if p.deb, err = debOf(ctx, p.tree, dir); err != nil {
				return err
			}
		}
		root := filepath.Join(dir, peer.name)
		if err := os.MkdirAll(root, 0o755); err != nil {
			return err
		}
		if err := peer.prepare(ctx, root); err != nil {
			return err
		}
		started := time.Now()
		if err := quietly(peer.install(ctx, p, root)); err != nil {
			return err
		}
		times[peer.name] = append(times[peer.name], time.Since(started))
	}
	return nil
}

// debOf makes a Debian package of an installed tree, without compression:
// dpkg is not measured by its decompressor.
func debOf(ctx context.Context, tree, dir string) (string, error) {
	build := filepath.Join(dir, "deb")
	control := "Package: bench\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: the same files\n"
	err := errors.Join(os.MkdirAll(filepath.Join(build, "DEBIAN"), 0o755),
		os.WriteFile(filepath.Join(build, "DEBIAN", "control"), []byte(control), 0o644))
	if err != nil {
		return "", err
	}
	// Hard links: nothing but names is made.
	if err := quietly(exec.CommandContext(ctx, "cp", "-al", filepath.Join(tree, "opt"), build)); err != nil {
		return "", err
	}
	deb := filepath.Join(dir, "bench.deb")
	return deb, quietly(exec.CommandContext(ctx, "dpkg-deb", "--root-owner-group", "-Znone", "--build", build, deb))
}
