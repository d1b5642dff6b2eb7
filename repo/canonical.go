package repo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// EncodeCanonical returns v as canonical JSON: UTF-8, object keys in byte
// order, no white space, and strings escaped as encoding/json does without
// HTML escaping. Whoever writes the same values writes the same bytes, so a
// document can be named by its digest.
//
// Structs must declare their fields in the order of their JSON keys; a test
// holds every type of this package to it.
func EncodeCanonical(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("cannot encode canonical JSON: %w", err)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// DecodeCanonical reads canonical JSON into v, which must be a pointer to a
// zero value. It refuses unknown fields, trailing data and every document
// that [EncodeCanonical] would have written differently, so two documents
// with one meaning can not have two digests. The caller bounds len(b).
func DecodeCanonical(b []byte, v any) error {
	if err := DecodeStrict(b, v); err != nil {
		return err
	}
	again, err := EncodeCanonical(v)
	if err != nil {
		return err
	}
	if !bytes.Equal(b, again) {
		return errors.New("cannot decode canonical JSON: not in canonical form")
	}
	return nil
}

// DecodeStrict reads JSON into v and refuses unknown fields and trailing
// data. It is for requests and configuration, which need not be canonical.
func DecodeStrict(b []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("cannot decode JSON: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("cannot decode JSON: data after the document")
	}
	return nil
}
