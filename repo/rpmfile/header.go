package rpmfile

import (
	"unicode/utf8"

	"github.com/cavaliergopher/rpm"
)

// header gives typed access to tags. A tag of another type than asked for is
// an error, which is kept in err until the caller looks, and the value is
// then as if the tag were not there.
type header struct {
	tags *rpm.Header
	err  error
}

func (h *header) fail(err error) {
	if h.err == nil {
		h.err = err
	}
}

func (h *header) has(tag int) bool { return h.tags.GetTag(tag) != nil }

// strings returns a tag's strings, as they are: perhaps no UTF-8.
func (h *header) strings(tag int) []string {
	t := h.tags.GetTag(tag)
	if t == nil {
		return nil
	}
	values, ok := t.Value.([]string)
	if !ok {
		h.fail(malformed("tag %d is no string", tag))
	}
	return values
}

// text returns a tag's first string: of a translated one, the untranslated.
func (h *header) text(tag int) string {
	if values := h.strings(tag); len(values) > 0 {
		return values[0]
	}
	return ""
}

// names returns a tag's strings, which must be UTF-8: they name things.
func (h *header) names(tag int) []string {
	values := h.strings(tag)
	for _, s := range values {
		if !utf8.ValidString(s) {
			h.fail(malformed("%q is not UTF-8", s))
			return nil
		}
	}
	return values
}

// name returns a tag's first string, which must be UTF-8.
func (h *header) name(tag int) string {
	if values := h.names(tag); len(values) > 0 {
		return values[0]
	}
	return ""
}

// ints returns a tag's numbers, without a sign.
func (h *header) ints(tag int) []int64 {
	t := h.tags.GetTag(tag)
	if t == nil {
		return nil
	}
	values, ok := t.Value.([]int64)
	if !ok {
		h.fail(malformed("tag %d is no number", tag))
		return nil
	}
	for _, n := range values {
		if n < 0 {
			h.fail(malformed("tag %d is out of range", tag))
			return nil
		}
	}
	return values
}

// int returns a tag's first number, or 0.
func (h *header) int(tag int) int64 {
	if values := h.ints(tag); len(values) > 0 {
		return values[0]
	}
	return 0
}

// bytes returns a binary tag.
func (h *header) bytes(tag int) []byte {
	t := h.tags.GetTag(tag)
	if t == nil {
		return nil
	}
	b, ok := t.Value.([]byte)
	if !ok {
		h.fail(malformed("tag %d is not binary", tag))
	}
	return b
}

// column checks that a tag that goes beside others has as many values as they
// have; it may be missing if it is optional.
func column[T any](h *header, tag int, values []T, rows int, optional bool) []T {
	if len(values) == rows {
		return values
	}
	if values != nil || !optional {
		h.fail(malformed("tag %d has %d values where %d belong", tag, len(values), rows))
	}
	return make([]T, rows)
}
