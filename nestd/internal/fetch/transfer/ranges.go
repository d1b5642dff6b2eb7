package transfer

import "slices"

// Range is the bytes of a blob from From up to but not including To.
type Range struct{ From, To int64 }

// Len returns how many bytes the range has.
func (r Range) Len() int64 { return r.To - r.From }

// span is a range that is there, and who sent it.
type span struct {
	Range
	from *tally
}

// spans are ranges in order that do not overlap.
type spans []span

// first returns the index of the first span that ends behind offset.
func (s spans) first(offset int64) int {
	i, _ := slices.BinarySearchFunc(s, offset, func(at span, offset int64) int {
		if at.To <= offset {
			return -1
		}
		return 1
	})
	return i
}

// gaps returns the parts of r that no span covers.
func (s spans) gaps(r Range) []Range {
	var gaps []Range
	at := r.From
	for i := s.first(r.From); i < len(s) && s[i].From < r.To; i++ {
		if s[i].From > at {
			gaps = append(gaps, Range{at, s[i].From})
		}
		at = s[i].To
	}
	if at < r.To {
		gaps = append(gaps, Range{at, r.To})
	}
	return gaps
}

// covers reports whether all of r is there.
func (s spans) covers(r Range) bool {
	at := r.From
	for i := s.first(at); at < r.To; i++ {
		if i == len(s) || s[i].From > at {
			return false
		}
		at = s[i].To
	}
	return true
}

// add inserts a range of which nothing is there yet, and returns the spans.
func (s spans) add(r Range, from *tally) spans {
	i := s.first(r.From)
	before := i > 0 && s[i-1].To == r.From && s[i-1].from == from
	after := i < len(s) && s[i].From == r.To && s[i].from == from
	switch {
	case before && after:
		s[i-1].To = s[i].To
		return slices.Delete(s, i, i+1)
	case before:
		s[i-1].To = r.To
		return s
	case after:
		s[i].From = r.From
		return s
	}
	return slices.Insert(s, i, span{r, from})
}

// cut takes r out, and returns the spans and what was in r.
func (s spans) cut(r Range) (rest, out spans) {
	i := s.first(r.From)
	j := i
	var keep spans
	for ; j < len(s) && s[j].From < r.To; j++ {
		at := s[j]
		if at.From < r.From {
			keep = append(keep, span{Range{at.From, r.From}, at.from})
		}
		if at.To > r.To {
			keep = append(keep, span{Range{r.To, at.To}, at.from})
		}
		out = append(out, span{Range{max(at.From, r.From), min(at.To, r.To)}, at.from})
	}
	return slices.Replace(s, i, j, keep...), out
}

// size returns how many bytes are there.
func (s spans) size() int64 {
	var n int64
	for _, at := range s {
		n += at.Len()
	}
	return n
}
