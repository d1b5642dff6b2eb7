package ingest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"stork/repo"
	"stork/repo/api"
)

// request is a decoded UploadRequest.
type request struct {
	role    []byte
	objects map[repo.Digest]*object
	bytes   int64 // of all objects
}

// object is one declared object of a session.
type object struct {
	size  int64
	kind  api.Kind
	state objectState
}

// objectState is how far an object has come; the session's mutex guards it.
type objectState uint8

const (
	absent   objectState = iota
	arriving             // a stream is writing it
	stored               // in the session's directory, hashed
	inTree               // published already, with something else
)

// decodeRequest reads an UploadRequest object by object: it comes before its
// signature can be checked, so it may cost only what the limits say.
func decodeRequest(r io.Reader, limits Limits) (*request, error) {
	bounded := &io.LimitedReader{R: r, N: limits.Request + 1}
	d := requestDecoder{json: json.NewDecoder(bounded), limits: limits}
	d.json.DisallowUnknownFields()
	err := d.decode()
	switch {
	case err != nil && bounded.N <= 0:
		return nil, fmt.Errorf("%w: the request has over %d bytes", ErrTooLarge, limits.Request)
	case errors.Is(err, ErrTooLarge), errors.Is(err, ErrBadRequest):
		return nil, err
	case err != nil:
		return nil, badRequest("%v", err)
	}
	return &d.request, nil
}

type requestDecoder struct {
	request
	json   *json.Decoder
	limits Limits
}

func (d *requestDecoder) decode() error {
	if err := d.expect(json.Delim('{')); err != nil {
		return err
	}
	for d.json.More() {
		key, err := d.json.Token()
		if err != nil {
			return err
		}
		switch {
		case key == "role" && d.role == nil:
			err = d.json.Decode(&d.role)
		case key == "objects" && d.objects == nil:
			err = d.decodeObjects()
		default:
			err = badRequest("unknown or repeated field %q", key)
		}
		if err != nil {
			return err
		}
	}
	if err := d.expect(json.Delim('}')); err != nil {
		return err
	}
	if _, err := d.json.Token(); !errors.Is(err, io.EOF) {
		return badRequest("data after the request")
	}
	if len(d.role) == 0 || len(d.role) > repo.MaxRole {
		return badRequest("want a role of 1 to %d bytes", repo.MaxRole)
	}
	return nil
}

func (d *requestDecoder) expect(want json.Delim) error {
	got, err := d.json.Token()
	if err == nil && got != want {
		err = badRequest("want %q in the request, got %v", want, got)
	}
	return err
}

func (d *requestDecoder) decodeObjects() error {
	d.objects = map[repo.Digest]*object{}
	if err := d.expect(json.Delim('[')); err != nil {
		return err
	}
	for d.json.More() {
		var o api.Object
		if err := d.json.Decode(&o); err != nil {
			return err
		}
		if err := d.add(o); err != nil {
			return err
		}
	}
	return d.expect(json.Delim(']'))
}

func (d *requestDecoder) add(o api.Object) error {
	max := int64(maxDocument)
	switch o.Kind {
	case api.Data:
	case api.Blob:
		max = repo.MaxBlob
	default:
		return badRequest("object %s has the unknown kind %q", o.Digest, o.Kind)
	}
	if o.Digest.IsZero() || o.Size < 0 {
		return badRequest("object %s has %d bytes", o.Digest, o.Size)
	}
	if o.Size > max {
		return fmt.Errorf("%w: %s object %s has over %d bytes", ErrTooLarge, o.Kind, o.Digest, max)
	}
	if _, again := d.objects[o.Digest]; again {
		return badRequest("object %s is declared twice", o.Digest)
	}
	if d.bytes += o.Size; d.bytes > d.limits.Bytes {
		return fmt.Errorf("%w: an upload may have %d bytes here", ErrTooLarge, d.limits.Bytes)
	}
	if len(d.objects) == d.limits.Objects {
		return fmt.Errorf("%w: an upload may have %d objects here", ErrTooLarge, d.limits.Objects)
	}
	d.objects[o.Digest] = &object{size: o.Size, kind: o.Kind}
	return nil
}

// maxDocument is what the largest kind of document may have: a file list.
const maxDocument = repo.MaxFileList
