package api_test

import (
	"bytes"
	"crypto/ed25519"
	"testing"
	"time"

	"stork/repo"
	"stork/repo/api"
)

// TestAnnounceToken: a token is good for one nest, one repository and some
// time, and every changed bit is noticed.
func TestAnnounceToken(t *testing.T) {
	t.Parallel()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	root, now := repo.DigestOf([]byte("root")), time.Unix(1e9, 0)
	token := api.NewAnnounceToken(key, root, now.Add(time.Hour))
	// The vector holds the format: another one is refused by trackers that
	// are in use.
	const want = "6kpsY-KcUgq-9VB7Ey7F-ZVHdq6-vnuSQh7qaRRG0iwAAAAAO5rYEA-I-hwUsPtctd4OwNeUOcrwOMqbod3iXV5kVXbvhZx-Hc9coPGOK1byQp5tZXUjzxDSeD5KqCol1IVk0k3VSQY"
	if string(token) != want {
		t.Errorf("the token is %s, want %s", token, want)
	}
	got, err := token.Key()
	if err != nil || !bytes.Equal(got[:], key.Public().(ed25519.PublicKey)) {
		t.Errorf("the token's key is %x, %v", got, err)
	}
	if err := token.Verify(root, now); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"other root":  token.Verify(repo.DigestOf(nil), now),
		"later":       token.Verify(root, now.Add(time.Hour)),
		"much before": token.Verify(root, now.Add(-24*time.Hour)),
		"longer":      (token + "A").Verify(root, now),
		"empty":       api.AnnounceToken("").Verify(root, now),
	} {
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for i := range token {
		changed := []byte(token)
		changed[i]++
		if changed[i] == '-' || api.AnnounceToken(changed).Verify(root, now) == nil {
			t.Errorf("character %d may be another one", i)
		}
	}
}
