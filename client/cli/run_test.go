package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"stork/client/change"
	"stork/client/direct"
	"stork/fixtures"
	"stork/fixtures/world"
	"stork/nestd/api"
	"stork/repo"
)

// TestMain lets this test binary be the program that the sandbox runs.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == direct.UnpackerCommand {
		os.Exit(Run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// guestBox is a guest's root, in which the whole program is run.
type guestBox struct {
	t         *testing.T
	root, dir string
}

func newGuestBox(t *testing.T) *guestBox {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root, and in CI everything is there")
		}
		t.Skip("a guest is changed by its root only")
	}
	return &guestBox{t, world.TempDir(t), world.TempDir(t)}
}

func (b *guestBox) run(input string, args ...string) (status int, stdout, stderr string) {
	b.t.Helper()
	var out, errs bytes.Buffer
	args = append([]string{"--sysroot=" + b.root, "--dir=" + b.dir}, args...)
	status = Run(context.Background(), args, strings.NewReader(input), &out, &errs)
	return status, out.String(), errs.String()
}

// want runs a command line and checks its status and what it says: stdout
// must hold every text in says that does not begin with "2>", stderr the
// others.
func (b *guestBox) want(status int, line string, says ...string) string {
	b.t.Helper()
	line, input, _ := strings.Cut(line, " < ")
	got, out, errs := b.run(input, strings.Fields(line)...)
	if got != status {
		b.t.Errorf("stork %s: status %d, want %d", line, got, status)
	}
	for _, text := range says {
		where := out
		if rest, ok := strings.CutPrefix(text, "2>"); ok {
			where, text = errs, rest
		}
		if !strings.Contains(where, text) {
			b.t.Errorf("stork %s: does not say %q", line, text)
		}
	}
	if b.t.Failed() {
		b.t.Fatalf("stork %s said\n%s---\n%s", line, out, errs)
	}
	return out
}

// oneDocument wants exactly one JSON document.
func (b *guestBox) oneDocument(text string, into any) {
	b.t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	if err := d.Decode(into); err != nil {
		b.t.Fatalf("%q: %v", text, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		b.t.Errorf("%q: more than one document", text)
	}
}

// pinned is a guest that alice owns and that has no nest.
func pinned(t *testing.T, specs ...fixtures.Spec) (*guestBox, *world.Repository, *world.Publisher) {
	t.Helper()
	b, r := newGuestBox(t), world.New(t)
	alice := r.Join("alice")
	alice.Publish(specs...)
	alice.PublishPolicy(0, alice.Allow("*"))
	b.want(0, "pin "+r.Server.URL+" --root "+r.Root.String()+" --owner "+alice.Owner.Pin().Digest.String())
	return b, r, alice
}

func hello(version string) fixtures.Spec {
	return fixtures.Spec{
		Name: "hello", Version: version, Summary: "A friendly \x1b[31mpackage", Requires: []string{"greeting"},
		Files: []fixtures.File{fixtures.Text("/opt/hello", version), fixtures.Directory("/opt/empty")},
	}
}

func greeting() fixtures.Spec {
	return fixtures.Spec{Name: "greeting-words", Provides: []string{"greeting"}, Files: []fixtures.File{fixtures.Text("/opt/words", "hi")}}
}

// TestGuestWithoutNest is a guest's whole life on the command line.
func TestGuestWithoutNest(t *testing.T) {
	t.Parallel()
	b, _, alice := pinned(t, hello("1"), greeting())
	b.want(0, "method", "nothing is installed (chosen: auto)")
	b.want(1, "method -y overlay", "2>no nest", "2>stork method auto")
	b.want(1, "install -y --method bind hello", "2>no nest")
	b.want(2, "method tape")
	b.want(0, "method copy", "shared by copy from now on")
	b.want(0, "method -y auto", "shared by auto from now on")
	b.want(0, "list")
	b.want(0, "list --available", "hello", "greeting-words", "alice")
	b.want(3, "list nothing*", "2>no package has such a name")
	b.want(0, "search FRIENDLY", "hello", "A friendly", "package")
	b.want(3, "search unfriendly", "2>nothing found")
	b.want(0, "provides greeting", "greeting-words")
	b.want(0, "whatrequires greeting", "hello")
	b.want(0, "info hello", "Summary:      A friendly ", "Trust:", "Files:")
	b.want(0, "files hello", "/opt/hello\n")
	b.want(0, "trust explain hello", "allowed  hello-1-1.noarch from alice")
	b.want(0, "install -n hello", "Install:\n", "Install because others need it:\n", "for hello-1-1.noarch", "2 packages")
	b.want(1, "install hello < n\n", "2>Go on? [y/N]", "2>nothing was changed")
	b.want(1, "install hello", "2>nobody answered the question", "2>-y")
	b.want(1, "install -q hello", "Install:\n") // whoever is asked is shown what about
	b.want(0, "list")
	b.want(0, "install hello < y\n", "Installed 2 packages")
	b.want(0, "install -y hello", "hello is there already.\nNothing to do.")
	b.want(0, "list", "hello", "user", "dependency")
	b.want(0, "verify")
	if out := b.want(0, "install -q -y --reinstall hello"); out != "" {
		t.Errorf("-q said %q", out)
	}
	alice.Publish(hello("2"))
	b.want(0, "upgrade -y", "Upgrade:\n", "replaces hello-1-1.noarch")
	if err := os.WriteFile(filepath.Join(b.root, "opt/hello"), []byte("changed"), 0o644); err != nil {
		t.Fatal(err)
	}
	b.want(1, "verify", "/opt/hello", "2>1 path not as installed")
	b.want(3, "verify nothing", "2>no package nothing is installed")
	b.want(0, "status", "owner        sha256:", "2 packages", "nest         none", "verified, valid for")
	b.want(4, "remove -y greeting-words", "2>--allow-erasing")
	b.want(3, "remove -y nothing")
	b.want(0, "remove -y hello greeting-words", "Removed 2 packages")
	b.want(0, "list")
}

func TestJSON(t *testing.T) {
	t.Parallel()
	b, _, _ := pinned(t, hello("1"), greeting())
	b.want(2, "install --json hello", "2>--json asks no questions", "2>-y")
	var result struct {
		DryRun  bool            `json:"dry_run"`
		Plan    *change.Plan    `json:"plan"`
		Outcome *change.Outcome `json:"outcome"`
		Seconds float64         `json:"seconds"`
	}
	b.oneDocument(b.want(0, "install --json -n hello"), &result)
	if !result.DryRun || result.Outcome != nil || len(result.Plan.Packages) != 2 {
		t.Errorf("dry run: %+v", result)
	}
	b.oneDocument(b.want(0, "install --json -y hello"), &result)
	if result.DryRun || result.Outcome == nil || len(result.Outcome.Installed) != 2 {
		t.Errorf("install: %+v", result)
	}
	b.oneDocument(b.want(0, "install --json -y hello"), &result)
	for _, line := range []string{
		"list --json", "list --json -a", "info --json hello", "search --json hello", "files --json hello", "provides --json greeting",
		"whatrequires --json greeting", "verify --json", "status --json", "method --json", "trust explain --json hello",
	} {
		var document any
		b.oneDocument(b.want(0, line), &document)
	}
	other := "sha256:" + strings.Repeat("ab", 32)
	b.want(5, "pin http://x --root "+other+" --owner "+other, "2>this guest belongs to owner", "2>pins.json")
}

// TestRefused: what policy denies is not "not found".
func TestRefused(t *testing.T) {
	t.Parallel()
	b, r, alice := pinned(t, hello("1"), greeting())
	alice.PublishPolicy(0, alice.Allow("other-*"))
	b.want(5, "install -y hello", "2>refused by the owner's trust policy", "2>stork trust explain")
	b.want(5, "info hello", "2>not admitted")
	b.want(0, "trust explain hello", "refused  hello-1-1.noarch from alice")
	b.want(3, "install -y nothing", "2>stork search")
	r.Server.Close()
	b.want(6, "install -y hello", "2>cannot reach repository", "2>What is installed keeps working.")
}

// TestNestDown: a guest whose nest is down says what it knows.
func TestNestDown(t *testing.T) {
	t.Parallel()
	b, _, _ := pinned(t, hello("1"), greeting())
	b.want(0, "install -y hello")
	socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(b.dir, api.SocketName)})
	if err != nil {
		t.Fatal(err)
	}
	socket.SetUnlinkOnClose(false)
	socket.Close()
	b.want(0, "list", "hello", "greeting-words")
	b.want(0, "info hello", "Version:      1-1", "Installed:    yes", "2>the nest can not be reached", "2>Showing what this guest knows")
	b.want(0, "files hello", "/opt/empty\n", "/opt/hello\n", "2>the nest can not be reached")
	var list []map[string]any
	b.oneDocument(b.want(0, "info --json hello"), &list)
	if len(list) != 1 || list[0]["entry"] == nil || list[0]["record"] != nil {
		t.Errorf("info: %+v", list)
	}
	b.want(0, "files -l hello", "dir     0755 root     root", "/opt/empty\n", "2>the nest can not be reached")
	var files []repo.File
	b.oneDocument(b.want(0, "files --json hello"), &files)
	if !slices.ContainsFunc(files, func(f repo.File) bool { return f.Path == "/opt/hello" && f.Type != "" }) {
		t.Errorf("files: %+v", files)
	}
	for _, line := range []string{"info other", "files other", "list -a", "install -y other", "search x"} {
		b.want(6, line, "2>the nest can not be reached", "2>nestd status")
	}
	b.want(6, "status", "nest         down", "2 packages")
	b.want(0, "verify")
	b.want(0, "remove -y hello", "Removed 1 package")
}

// TestFilesOfRecord: what is installed has the file list of its record, also
// when the catalog does not know it any more.
func TestFilesOfRecord(t *testing.T) {
	t.Parallel()
	b, _, alice := pinned(t, hello("1"), greeting())
	signed := b.want(0, "files -l hello")
	b.want(0, "install -y hello")
	alice.PublishPolicy(0, alice.Allow("other-*"))
	if got := b.want(0, "files -l hello", "2>not admitted", "2>Showing what this guest knows"); got != signed {
		t.Errorf("got\n%s, want\n%s", got, signed)
	}
	b.want(0, "remove -y hello")
	b.want(5, "files hello", "2>not admitted")
}

// TestNothingPinned: the first thing that anybody sees says what to do.
func TestNothingPinned(t *testing.T) {
	t.Parallel()
	b := newGuestBox(t)
	b.want(0, "list")
	b.want(5, "install -y hello", "2>no repository is pinned", "2>stork pin")
	b.want(5, "status", "owner        none is pinned yet", "0 packages", "2>stork pin")
	b.want(2, "pin http://x --root sha256:"+strings.Repeat("a", 64), "2>no owner is pinned yet", "2>stork key show")
	b.want(0, "mount --unit", "[Unit]")
}

// commands are all command lines of a grammar, without arguments.
func commands(grammar reflect.Type, before ...string) [][]string {
	list := [][]string{}
	for i := range grammar.NumField() {
		f := grammar.Field(i)
		if _, embedded := f.Tag.Lookup("embed"); embedded || f.Anonymous && f.Type.Kind() == reflect.Struct {
			list = append(list, commands(f.Type, before...)...)
			continue
		}
		if _, ok := f.Tag.Lookup("cmd"); !ok {
			continue
		}
		line := append(append([]string{}, before...), strings.ToLower(f.Name))
		list = append(list, line)
		list = append(list, commands(f.Type, line...)...)
	}
	return list
}

// TestEveryCommand: help, and wrong usage, of all of them.
func TestEveryCommand(t *testing.T) {
	t.Parallel()
	list := commands(reflect.TypeFor[grammar]())
	if len(list) < 25 {
		t.Fatalf("only %d commands: %q", len(list), list)
	}
	for _, line := range list {
		var out, errs bytes.Buffer
		if status := Run(context.Background(), append(line, "--help"), nil, &out, &errs); status != 0 || !strings.Contains(out.String(), "Usage: stork "+strings.Join(line, " ")) || errs.Len() > 0 {
			t.Errorf("%q: help ends with %d and says %q, %q", line, status, out.String(), errs.String())
		}
		out.Reset()
		if status := Run(context.Background(), append(line, "--no-such-flag"), nil, &out, &errs); status != 2 || out.Len() > 0 || !strings.Contains(errs.String(), "--help'") {
			t.Errorf("%q --no-such-flag: status %d, says %q, %q", line, status, out.String(), errs.String())
		}
	}
	var out, errs bytes.Buffer
	if status := Run(context.Background(), []string{"--man"}, nil, &out, &errs); status != 0 || !strings.Contains(out.String(), "whatrequires") {
		t.Errorf("man page: status %d, %q", status, errs.String())
	}
}
