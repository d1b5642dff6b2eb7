package cli_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"stork/fixtures"
	"stork/repo"
	"stork/repo/api"
	"stork/repo/internal/uploadtest"
	"stork/repo/rpmfile"
)

// announce is a nest's announce to a server.
func announce(t *testing.T, s *serving, token api.AnnounceToken, swarm *repo.Swarm) string {
	t.Helper()
	query := url.Values{
		"info_hash": {string(swarm.InfoHash[:])}, "peer_id": {strings.Repeat("p", 20)}, "port": {"6881"}, "left": {"7"}, "compact": {"1"},
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+api.AnnouncePath(token, swarm.Info)+"?"+query.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := s.HTTP.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestTracker lets nests announce to a real server: those that the operator
// approves while it runs, for what is published while it runs, and again
// after it was killed.
func TestTracker(t *testing.T) {
	t.Parallel()
	w := uploadtest.NewWorld(t)
	alice := w.Publisher(t, "alice")
	s := serve(t, w)
	blob := fixtures.MustRPM(t, fixtures.Spec{Name: "big", Files: []fixtures.File{fixtures.Noise("/opt/big", 100<<10)}})
	pkg, err := rpmfile.Build(bytes.NewReader(blob))
	if err != nil {
		t.Fatal(err)
	}
	var tokens []api.AnnounceToken
	for n := range byte(2) {
		key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
		public := base64.StdEncoding.EncodeToString(key.Public().(ed25519.PublicKey))
		tokens = append(tokens, api.NewAnnounceToken(key, w.Home.Root, time.Now().Add(time.Hour)))
		if answer := announce(t, s, tokens[n], pkg.Record.Swarm); !strings.Contains(answer, "not approved") {
			t.Errorf("before it is approved a nest is answered %q", answer)
		}
		if out, err := process("nest", "add", public, "--dir", w.Home.Dir()).Output(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	until(t, "no such package", func() string { return announce(t, s, tokens[0], pkg.Record.Swarm) })
	if _, err := s.Send(t.Context(), alice.Prepare(t, blob)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		until(t, "5:peers0:", func() string { return announce(t, s, tokens[0], pkg.Record.Swarm) })
		until(t, "5:peers6:\x7f\x00\x00\x01\x1a\xe1", func() string { return announce(t, s, tokens[1], pkg.Record.Swarm) })
		until(t, "Tracker 1 package: 0 seeds, 2 leechers", func() string {
			out, err := process("status", "--dir", w.Home.Dir()).Output()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			return strings.Join(strings.Fields(string(out)), " ")
		})
		s.kill()
		out, err := process("status", "--dir", w.Home.Dir()).Output()
		if err != nil || !strings.Contains(string(out), "none") {
			t.Errorf("status without a server: %v: %s", err, out)
		}
		s = serve(t, w)
	}
}

// until asks until the answer has the text: another process's list of nests
// is believed for a moment.
func until(t *testing.T, want string, ask func() string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		got := ask()
		if strings.Contains(got, want) {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("the last answer is %q, want one with %q", got, want)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
