package repo

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// TestFieldOrder holds every document type to what EncodeCanonical relies on:
// fields stand in the order of their keys, and none is without a key.
func TestFieldOrder(t *testing.T) {
	t.Parallel()
	for _, document := range []any{Record{}, FileList{}, Object{}} {
		checkFieldOrder(t, reflect.TypeOf(document), map[reflect.Type]bool{})
	}
}

func checkFieldOrder(t *testing.T, typ reflect.Type, seen map[reflect.Type]bool) {
	t.Helper()
	if typ.Implements(reflect.TypeFor[json.Marshaler]()) || seen[typ] {
		return
	}
	seen[typ] = true
	switch typ.Kind() {
	case reflect.Slice, reflect.Array, reflect.Pointer, reflect.Map:
		checkFieldOrder(t, typ.Elem(), seen)
	case reflect.Struct:
		if typ.Implements(textMarshaler) {
			return
		}
		last := ""
		for i := range typ.NumField() {
			field := typ.Field(i)
			key, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if key == "" || key <= last {
				t.Errorf("%s.%s: key %q does not stand behind %q", typ, field.Name, key, last)
			}
			last = key
			checkFieldOrder(t, field.Type, seen)
		}
	}
}

var textMarshaler = reflect.TypeFor[interface{ MarshalText() ([]byte, error) }]()

func TestCanonical(t *testing.T) {
	t.Parallel()
	b, err := EncodeCanonical(Object{Digest: DigestOf([]byte("<&>")), Size: 3})
	if err != nil {
		t.Fatal(err)
	}
	good := string(b)
	if want := fmt.Sprintf(`{"digest":"%s","size":3}`, DigestOf([]byte("<&>"))); good != want {
		t.Fatalf("encoded as %s, want %s", good, want)
	}
	var back Object
	if err := DecodeCanonical(b, &back); err != nil || back.Size != 3 {
		t.Errorf("decoded as %+v, %v", back, err)
	}
	for _, bad := range []string{
		"", "null", "{}", good + " ", " " + good, good + "\n", good + good, strings.Replace(good, ":3", ": 3", 1),
		strings.Replace(good, ":3", ":3.0", 1), strings.Replace(good, ":3", ":3e0", 1), strings.Replace(good, `,"size":3`, "", 1),
		strings.Replace(good, "}", `,"x":1}`, 1), strings.Replace(good, `"size"`, `"Size"`, 1),
		strings.Replace(good, `"size"`, `"\u0073ize"`, 1), strings.Replace(good, "}", `,"size":3}`, 1),
		strings.ToUpper(good),
	} {
		if err := DecodeCanonical([]byte(bad), new(Object)); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
	type text struct {
		S string `json:"s"`
	}
	b, err = EncodeCanonical(text{"<a&b>\u2028é"})
	if want := `{"s":"<a&b>\u2028é"}`; err != nil || string(b) != want {
		t.Errorf("encoded as %s (%v), want %s", b, err, want)
	}
}

func TestDigest(t *testing.T) {
	t.Parallel()
	const hexed = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	d := DigestOf([]byte("abc"))
	if d.String() != "sha256:"+hexed || d.Hex() != hexed || d.Short() != hexed[:12] || d.IsZero() || !(Digest{}).IsZero() {
		t.Errorf("digest of abc is %s, %s, %s", d, d.Hex(), d.Short())
	}
	if got, err := ParseDigest("sha256:" + hexed); err != nil || got != d {
		t.Errorf("parsed as %s, %v", got, err)
	}
	for _, bad := range []string{"", hexed, "sha256:", "sha256:" + hexed[1:], "sha256:" + hexed + "0", "sha256:" + strings.ToUpper(hexed), "SHA256:" + hexed, "sha256:" + "g" + hexed[1:], "sha512:" + hexed} {
		if got, err := ParseDigest(bad); err == nil {
			t.Errorf("ParseDigest(%q) = %s, want an error", bad, got)
		}
	}
}
