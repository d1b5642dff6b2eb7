package check_test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"stork/repo"
	"stork/repo/index"
	"stork/repo/internal/server"
	"stork/signing"
)

// TestDocumentedFormats holds the examples of docs/formats.md to the code:
// each is read by the decoder it is for, and has the digest that the text
// before it says.
func TestDocumentedFormats(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "formats.md"))
	if err != nil {
		t.Fatal(err)
	}
	decoders := map[string]func([]byte) error{
		"record":   func(b []byte) error { _, err := repo.DecodeRecord(b); return err },
		"filelist": func(b []byte) error { _, err := repo.DecodeFileList(b); return err },
		"root":     func(b []byte) error { _, err := index.DecodeRoot(b); return err },
		"table":    func(b []byte) error { return repo.DecodeCanonical(b, new(index.Table)) },
		"shard":    func(b []byte) error { _, err := index.DecodeShard(b, 0, 0); return err },
		"role":     func(b []byte) error { _, err := signing.ParseRole(b); return err },
		"stats":    func(b []byte) error { return repo.DecodeStrict(b, new(server.Stats)) },
	}
	example := regexp.MustCompile("(?:example is `(sha256:[0-9a-f]{64})`:\n\n|\n\n)```json ([a-z]+)\n(.*)\n```")
	for _, match := range example.FindAllStringSubmatch(string(text), -1) {
		digest, kind, body := match[1], match[2], []byte(match[3])
		decode := decoders[kind]
		if decode == nil {
			continue // another room's
		}
		delete(decoders, kind)
		if err := decode(body); err != nil {
			t.Errorf("the example of a %s: %v", kind, err)
		}
		if got := repo.DigestOf(body).String(); digest != "" && got != digest {
			t.Errorf("the example of a %s has the digest %s, the text says %s", kind, got, digest)
		}
	}
	for kind := range decoders {
		t.Errorf("there is no example of a %s", kind)
	}
}
