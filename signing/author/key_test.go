package author

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"testing"
)

func FuzzDecodeKey(f *testing.F) {
	k, err := newKey(bytes.NewReader(make([]byte, 32)))
	if err != nil {
		f.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		f.Fatal(err)
	}
	b := pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der})
	f.Add(b)
	f.Add(append(b, b...))
	f.Add(b[:len(b)/2])
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := decodeKey(b)
		if err == nil && (len(k.private) != 64 || len(k.id) != 64) {
			t.Errorf("accepted %q", b)
		}
	})
}

func TestDecodeKeyRefusesTwo(t *testing.T) {
	t.Parallel()
	k, err := newKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		t.Fatal(err)
	}
	b := pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der})
	if got, err := decodeKey(b); err != nil || got.id != k.id {
		t.Errorf("got %v, %v", got.id, err)
	}
	if _, err := decodeKey(append(b, b...)); err == nil {
		t.Error("two keys in a file were accepted")
	}
}
