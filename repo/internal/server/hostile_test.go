package server_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stork/fixtures"
	nestapi "stork/nestd/api"
	"stork/repo"
	"stork/repo/api"
	"stork/repo/durable"
	"stork/repo/index"
	"stork/repo/internal/server"
	"stork/repo/internal/uploadtest"
	"stork/repo/rpmfile"
	"stork/signing"
	"stork/signing/policy"
)

// readable reads a real package, if it is one that Stork takes.
func readable(t *testing.T, path string) (b []byte, nevra repo.NEVRA, ok bool) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	pkg, err := rpmfile.Build(bytes.NewReader(b))
	if err != nil {
		return nil, repo.NEVRA{}, false
	}
	record := pkg.Record
	return b, record.NEVRA(), true
}

func wantCode(t *testing.T, err error, want nestapi.Code) {
	t.Helper()
	var wire *nestapi.Error
	if !errors.As(err, &wire) {
		t.Fatalf("the answer is %v, want code %s", err, want)
	}
	if wire.Code != want {
		t.Errorf("the answer is %s (%s), want code %s", wire.Code, wire.Message, want)
	}
}

// scene is a repository in which alice has published version 1.
type scene struct {
	world  *uploadtest.World
	client *uploadtest.Client
	alice  *uploadtest.Publisher
	first  *uploadtest.Upload
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{world: uploadtest.NewWorld(t)}
	s.alice = s.world.Publisher(t, "alice")
	s.client = start(t, s.world, nil)
	s.first = s.alice.Prepare(t, rpm(t, "hello", "1.0"))
	if _, err := s.client.Send(t.Context(), s.first); err != nil {
		t.Fatal(err)
	}
	s.alice.Published(s.first)
	return s
}

// empty is an index of nothing.
func (s *scene) empty(t *testing.T) *index.Tree {
	t.Helper()
	tree, _, err := index.New(s.alice.Name, s.world.Home.Root)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// TestHostileUploads sends what thieves of keys and broken tools might. None
// of it may change what readers see.
func TestHostileUploads(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		code nestapi.Code
		send func(t *testing.T, s *scene) error
	}{
		{"version skipped", nestapi.Conflict, func(t *testing.T, s *scene) error {
			s.alice.Version++
			_, err := s.client.Send(t.Context(), s.alice.Prepare(t, rpm(t, "next", "1.0")))
			return err
		}},
		{"old version with other content", nestapi.Conflict, func(t *testing.T, s *scene) error {
			s.alice.Version = 0
			_, err := s.client.Send(t.Context(), s.alice.Prepare(t, rpm(t, "next", "1.0")))
			return err
		}},
		{"keys of another publisher", nestapi.Untrusted, func(t *testing.T, s *scene) error {
			u := s.alice.Prepare(t, rpm(t, "next", "1.0"))
			mallory := s.world.Stranger(t, "alice")
			u.Signed = mallory.Sign(t, mallory.Index, 2, map[string]repo.Object{signing.IndexTarget("alice"): s.alice.Tree.Object})
			_, err := s.client.Send(t.Context(), u)
			return err
		}},
		{"role of another publisher", nestapi.Untrusted, func(t *testing.T, s *scene) error {
			bob := s.world.Publisher(t, "bob")
			u := bob.Prepare(t, rpm(t, "next", "1.0"))
			u.Name = "p-alice"
			_, err := s.client.Send(t.Context(), u)
			return err
		}},
		{"unknown publisher", nestapi.NotFound, func(t *testing.T, s *scene) error {
			_, err := s.client.Send(t.Context(), s.world.Stranger(t, "mallory").Prepare(t, rpm(t, "next", "1.0")))
			return err
		}},
		{"no role", nestapi.BadRequest, func(t *testing.T, s *scene) error {
			u := s.alice.Prepare(t, rpm(t, "next", "1.0"))
			u.Name = "alice"
			_, err := s.client.Send(t.Context(), u)
			return err
		}},
		{"package dropped", nestapi.Conflict, func(t *testing.T, s *scene) error {
			_, err := s.client.Send(t.Context(), s.alice.PreparePackages(t, s.empty(t), uploadtest.Read(t, rpm(t, "next", "1.0"))))
			return err
		}},
		{"package changed", nestapi.Conflict, func(t *testing.T, s *scene) error {
			changed := rpm(t, "hello", "1.0")
			changed = append(changed[:len(changed):len(changed)], 0)
			pkg, err := rpmfile.Build(bytes.NewReader(rpm(t, "hello", "1.0")))
			if err != nil {
				t.Fatal(err)
			}
			record, list := pkg.Record, pkg.Files
			record.Blob = repo.Blob{Digest: repo.DigestOf(changed), Format: repo.RPM, Size: int64(len(changed))}
			_, err = s.client.Send(t.Context(), s.alice.PreparePackages(t, s.empty(t), uploadtest.Encode(t, record, list, changed)))
			return err
		}},
		{"record that its blob does not make", nestapi.Untrusted, func(t *testing.T, s *scene) error {
			return s.altered(t, func(r *repo.Record, _ *repo.FileList, _ *index.Entry) { r.Requires = nil })
		}},
		{"file list that its blob does not make", nestapi.Untrusted, func(t *testing.T, s *scene) error {
			return s.altered(t, func(r *repo.Record, l *repo.FileList, _ *index.Entry) {
				l.Files[0].Mode = 0o4755
				_, r.FileList, _ = l.Encode()
			})
		}},
		{"entry that its record does not make", nestapi.Untrusted, func(t *testing.T, s *scene) error {
			return s.altered(t, func(_ *repo.Record, _ *repo.FileList, e *index.Entry) { e.Provides = nil })
		}},
		{"swarm that its blob does not make", nestapi.Untrusted, func(t *testing.T, s *scene) error {
			return s.alteredSwarm(t, func(p *uploadtest.Package, r *repo.Record) { r.Swarm.InfoHash[0] ^= 1 })
		}},
		{"info dictionary that does not come", nestapi.Conflict, func(t *testing.T, s *scene) error {
			return s.alteredSwarm(t, func(p *uploadtest.Package, r *repo.Record) { p.Info = nil })
		}},
		{"info dictionary of another blob", nestapi.Untrusted, func(t *testing.T, s *scene) error {
			return s.alteredSwarm(t, func(p *uploadtest.Package, r *repo.Record) {
				p.Info[len(p.Info)/2] ^= 1
				r.Swarm.Info = repo.DigestOf(p.Info)
			})
		}},
		{"blob that is no package", nestapi.Malformed, func(t *testing.T, s *scene) error {
			pkg, err := rpmfile.Build(bytes.NewReader(rpm(t, "next", "1.0")))
			if err != nil {
				t.Fatal(err)
			}
			record, list := pkg.Record, pkg.Files
			blob := []byte("no package")
			record.Blob = repo.Blob{Digest: repo.DigestOf(blob), Format: repo.RPM, Size: int64(len(blob))}
			_, err = s.client.Send(t.Context(), s.alice.PreparePackages(t, s.alice.Tree, uploadtest.Encode(t, record, list, blob)))
			return err
		}},
		{"content of another digest", nestapi.Untrusted, func(t *testing.T, s *scene) error {
			u := s.alice.Prepare(t, rpm(t, "next", "1.0"))
			d := u.Objects[0].Digest
			u.Content[d] = bytes.Repeat([]byte{'x'}, len(u.Content[d]))
			_, err := s.client.Send(t.Context(), u)
			return err
		}},
		{"content of another size", nestapi.BadRequest, func(t *testing.T, s *scene) error {
			u := s.alice.Prepare(t, rpm(t, "next", "1.0"))
			d := u.Objects[0].Digest
			u.Content[d] = append(u.Content[d], 'x')
			_, err := s.client.Send(t.Context(), u)
			return err
		}},
		{"content that was not declared", nestapi.BadRequest, func(t *testing.T, s *scene) error {
			u := s.alice.Prepare(t, rpm(t, "next", "1.0"))
			u.Objects = u.Objects[1:]
			session, err := s.client.Open(t.Context(), u)
			if err != nil {
				t.Fatal(err)
			}
			var all []repo.Digest
			for d := range u.Content {
				all = append(all, d)
			}
			_, err = s.client.Files(t.Context(), u, session.Session, all)
			return err
		}},
		{"commit of half an upload", nestapi.Conflict, func(t *testing.T, s *scene) error {
			u := s.alice.Prepare(t, rpm(t, "next", "1.0"))
			session, err := s.client.Open(t.Context(), u)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.client.Files(t.Context(), u, session.Session, session.Missing[1:]); err != nil {
				t.Fatal(err)
			}
			_, err = s.client.Commit(t.Context(), u, session.Session)
			return err
		}},
		{"member that is no file", nestapi.BadRequest, func(t *testing.T, s *scene) error {
			return s.raw(t, func(w *tar.Writer, u *uploadtest.Upload) error {
				return w.WriteHeader(&tar.Header{Name: u.Objects[0].Digest.Hex(), Typeflag: tar.TypeSymlink, Linkname: "/etc/shadow"})
			})
		}},
		{"member that leaves the directory", nestapi.BadRequest, func(t *testing.T, s *scene) error {
			return s.raw(t, func(w *tar.Writer, _ *uploadtest.Upload) error {
				return uploadtest.Member(w, "../../tree/metadata/timestamp.json", []byte("{}"))
			})
		}},
		{"endless stream", nestapi.TooLarge, func(t *testing.T, s *scene) error {
			return s.raw(t, func(w *tar.Writer, u *uploadtest.Upload) error {
				for {
					if err := uploadtest.Member(w, u.Objects[0].Digest.Hex(), u.Content[u.Objects[0].Digest]); err != nil {
						return err
					}
				}
			})
		}},
		{"no archive", nestapi.BadRequest, func(t *testing.T, s *scene) error {
			u := s.alice.Prepare(t, rpm(t, "next", "1.0"))
			session, err := s.client.Open(t.Context(), u)
			if err != nil {
				t.Fatal(err)
			}
			return s.client.Stream(t.Context(), u.Name, session.Session, strings.NewReader(strings.Repeat("x", 2048)), new(api.UploadProgress))
		}},
		{"session of another role", nestapi.NotFound, func(t *testing.T, s *scene) error {
			bob := s.world.Publisher(t, "bob")
			session, err := s.client.Open(t.Context(), s.alice.Prepare(t, rpm(t, "next", "1.0")))
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.client.Commit(t.Context(), bob.Prepare(t), session.Session)
			return err
		}},
		{"policy that can not be read", nestapi.Untrusted, func(t *testing.T, s *scene) error {
			_, err := s.client.Send(t.Context(), s.alice.PrepareOwner(t, signing.PolicyTarget("alice"), []byte(`{"format":1}`)))
			return err
		}},
		{"policy of another owner", nestapi.Untrusted, func(t *testing.T, s *scene) error {
			_, err := s.client.Send(t.Context(), s.alice.PrepareOwner(t, signing.PolicyTarget("alice"), policyOf(t, "o-bob")))
			return err
		}},
		{"manifest", nestapi.Unsupported, func(t *testing.T, s *scene) error {
			_, err := s.client.Send(t.Context(), s.alice.PrepareOwner(t, signing.ManifestTarget("alice", "all"), []byte(`{}`)))
			return err
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			before, err := s.world.Home.Versions()
			if err != nil {
				t.Fatal(err)
			}
			wantCode(t, test.send(t, s), test.code)
			after, err := s.world.Home.Versions()
			if err != nil {
				t.Fatal(err)
			}
			if before.Roles["p-alice"] != after.Roles["p-alice"] || after.Roles["o-alice"] != 0 {
				t.Errorf("readers saw %v and now see %v", before.Roles, after.Roles)
			}
			mustBeSound(t, s.world)
		})
	}
}

func policyOf(t *testing.T, role repo.Role) []byte {
	t.Helper()
	b, err := (&policy.Policy{Format: policy.Format, Role: role, Rules: []policy.Rule{}}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// altered publishes a package of which something was changed after it was
// built.
func (s *scene) altered(t *testing.T, change func(*repo.Record, *repo.FileList, *index.Entry)) error {
	t.Helper()
	blob := rpm(t, "next", "1.0")
	pkg, err := rpmfile.Build(bytes.NewReader(blob))
	if err != nil {
		t.Fatal(err)
	}
	record, list := pkg.Record, pkg.Files
	change(record, list, &index.Entry{})
	changed := uploadtest.Encode(t, record, list, blob)
	change(record, list, &changed.Entry)
	_, err = s.client.Send(t.Context(), s.alice.PreparePackages(t, s.alice.Tree, changed))
	return err
}

// alteredSwarm publishes a package of which something was changed that has to
// do with its swarm.
func (s *scene) alteredSwarm(t *testing.T, change func(*uploadtest.Package, *repo.Record)) error {
	t.Helper()
	blob := fixtures.MustRPM(t, fixtures.Spec{Name: "next", Files: []fixtures.File{fixtures.Noise("/opt/next", 100<<10)}})
	pkg, err := rpmfile.Build(bytes.NewReader(blob))
	if err != nil {
		t.Fatal(err)
	}
	changed := uploadtest.Encode(t, pkg.Record, pkg.Files, blob)
	change(&changed, pkg.Record)
	info := changed.Info
	changed = uploadtest.Encode(t, pkg.Record, pkg.Files, blob)
	changed.Info = info
	_, err = s.client.Send(t.Context(), s.alice.PreparePackages(t, s.alice.Tree, changed))
	return err
}

// raw sends an archive of the test's own making.
func (s *scene) raw(t *testing.T, write func(*tar.Writer, *uploadtest.Upload) error) error {
	t.Helper()
	u := s.alice.Prepare(t, rpm(t, "next", "1.0"))
	session, err := s.client.Open(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	go func() {
		archive := tar.NewWriter(w)
		err := write(archive, u)
		if err == nil {
			err = archive.Close()
		}
		w.CloseWithError(err)
	}()
	return s.client.Stream(t.Context(), u.Name, session.Session, r, new(api.UploadProgress))
}

func TestPolicyIsServed(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	content := policyOf(t, "o-alice")
	if _, err := s.client.Send(t.Context(), s.alice.PrepareOwner(t, signing.PolicyTarget("alice"), content)); err != nil {
		t.Fatal(err)
	}
	got, err := web{s.client}.Fetch(t.Context(), repo.DataPath(repo.DigestOf(content)), 1<<20)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("the policy comes back as %q, %v", got, err)
	}
	mustBeSound(t, s.world)
}

// TestSlowClients holds connections open without moving bytes.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	w := uploadtest.NewWorld(t)
	alice := w.Publisher(t, "alice")
	c := start(t, w, func(o *server.Options) { o.Grace = 300 * time.Millisecond })
	u := alice.Prepare(t, rpm(t, "hello", "1.0"))
	session, err := c.Open(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(c.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	head := "POST " + api.FilesPath(u.Name, session.Session) + " HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
	if _, err := io.WriteString(conn, head); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	closed := make(chan struct{})
	go func() { defer close(closed); _, _ = io.Copy(io.Discard, conn) }()
	for {
		select {
		case <-closed:
			return
		case <-ctx.Done():
			t.Fatal("a client that sends a byte now and then holds its connection for ever")
		case <-time.After(50 * time.Millisecond):
			_, _ = conn.Write([]byte{0})
		}
	}
}

// TestSlowReaders asks for a large file and does not take it.
func TestSlowReaders(t *testing.T) {
	t.Parallel()
	w := uploadtest.NewWorld(t)
	big := bytes.Repeat([]byte("0123456789abcdef"), 4<<20) // more than sockets buffer
	d := repo.DigestOf(big)
	path := w.Home.TreePath(repo.BlobPath(d))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, big, 0o600); err != nil {
		t.Fatal(err)
	}
	c := start(t, w, func(o *server.Options) { o.Grace = 300 * time.Millisecond; o.Pace = 1 << 30 })
	conn, err := net.Dial("tcp", strings.TrimPrefix(c.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /"+repo.BlobPath(d)+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, conn)
	if errors.Is(err, os.ErrDeadlineExceeded) || n >= int64(len(big)) {
		t.Errorf("one who does not read for a second still gets %d bytes, %v", n, err)
	}
}

// TestLongCommit shows that a commit may take longer than a client may.
func TestLongCommit(t *testing.T) {
	t.Parallel()
	w := uploadtest.NewWorld(t)
	alice := w.Publisher(t, "alice")
	slow := durable.Disk{Fault: func(step durable.Step, _ string) (error, error) {
		if step == durable.StepLink {
			time.Sleep(150 * time.Millisecond)
		}
		return nil, nil
	}}
	c := start(t, w, func(o *server.Options) { o.Grace = 200 * time.Millisecond; o.Home = w.Reopen(t, slow) })
	if _, err := c.Send(t.Context(), alice.Prepare(t, rpm(t, "hello", "1.0"))); err != nil {
		t.Error(err)
	}
}
