package solve

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// lit is +v for "package v is installed" and -v for "it is not".
type lit int32

func (l lit) v() lit {
	if l < 0 {
		return -l
	}
	return l
}

// code numbers literals from 0, for indexing.
func (l lit) code() int {
	if l < 0 {
		return int(-l)*2 + 1
	}
	return int(l) * 2
}

// rule is a clause: p or one of d holds. d is shared between the rules of
// one requirement and is never changed.
type rule struct {
	p        lit
	d        []lit
	alts     []uint8 // of d: which alternative of an "or" a literal belongs to; nil: all the same
	watch    [2]lit
	kind     LineKind
	pkg      lit    // whose demand it is, 0 if a job's
	req      string // the demand
	job      int    // which job, from 1, for the kinds that come from one
	weak     bool   // given up if nothing else helps
	disabled bool
	learnt   bool
	why      []int32 // learnt: the causes it follows from
}

// The causes of a value, besides the number of a rule.
const (
	noCause  int32 = -1 // a decision
	pairBase int32 = -2 // pairBase-k: the k-th pair
)

// pair says that two versions of one package exclude each other. Pairs stand
// for the clauses of a group, which are too many to be written out.
type pair struct{ a, b lit }

// sat is a CDCL solver: two watched literals, first unique implication point,
// non-chronological backjumps. What to decide next, its user says.
type sat struct {
	rules   []rule
	watches [][]int32 // by literal code: rules that watch it
	groups  [][]lit   // of each group at most one package is installed
	groupOf []int32   // by variable, -1 if none

	value  []int8  // by variable: 0 open, 1 installed, -1 not
	level  []int32 // by variable
	cause  []int32 // by variable
	trail  []lit
	head   int   // how much of trail is propagated
	starts []int // where each level but 0 begins in trail

	pairs     []pair
	pairIndex map[pair]int32
	seen      []bool // scratch of analyze
	conflicts int
	onUndo    func() // called when decisions were taken back
}

// maxConflicts bounds the search. Real cases need tens.
const maxConflicts = 200_000

var errTooHard = errors.New("cannot solve: the requirements are too entangled; name versions, or fewer packages")

func newSAT(vars int) *sat {
	s := &sat{
		watches: make([][]int32, 2*vars+2), groupOf: make([]int32, vars+1),
		value: make([]int8, vars+1), level: make([]int32, vars+1), cause: make([]int32, vars+1),
		seen: make([]bool, vars+1), pairIndex: map[pair]int32{}, onUndo: func() {},
	}
	for i := range s.groupOf {
		s.groupOf[i] = -1
	}
	return s
}

// group makes the packages exclude each other.
func (s *sat) group(vars []lit) {
	for _, v := range vars {
		s.groupOf[v] = int32(len(s.groups))
	}
	s.groups = append(s.groups, vars)
}

// add adds a rule; it takes part from the next start on.
func (s *sat) add(r rule) int32 {
	n := int32(len(s.rules))
	if len(r.d) > 0 {
		r.watch = [2]lit{r.p, r.d[0]}
		s.watches[r.watch[0].code()] = append(s.watches[r.watch[0].code()], n)
		s.watches[r.watch[1].code()] = append(s.watches[r.watch[1].code()], n)
	}
	s.rules = append(s.rules, r)
	return n
}

// truth returns 1, -1 or 0 for a literal.
func (s *sat) truth(l lit) int8 {
	if l < 0 {
		return -s.value[-l]
	}
	return s.value[l]
}

func (s *sat) assign(l lit, cause int32) {
	v := l.v()
	s.value[v] = 1
	if l < 0 {
		s.value[v] = -1
	}
	s.level[v] = int32(len(s.starts))
	s.cause[v] = cause
	s.trail = append(s.trail, l)
}

// run searches for values under which every rule holds that is not disabled.
// next returns the literal to decide, or 0 if what is still open may be
// false. If there is none, run returns the causes that exclude each other.
func (s *sat) run(ctx context.Context, next func() lit) (core []int32, err error) {
	conflict, ok := s.restart()
	for {
		if ok {
			conflict, ok = s.propagate()
		}
		if ok {
			l := next()
			if l == 0 {
				return nil, nil
			}
			s.starts = append(s.starts, len(s.trail))
			s.assign(l, noCause)
			continue
		}
		if s.conflicts++; s.conflicts > maxConflicts {
			return nil, errTooHard
		}
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("cannot solve: %w", err)
		}
		if len(s.starts) > 0 {
			conflict, ok = s.learn(conflict)
			continue
		}
		core := s.expand(s.proof(conflict))
		if !s.yield(core) {
			return core, nil
		}
		conflict, ok = s.restart()
	}
}

// restart takes everything back and asserts the rules of one literal.
func (s *sat) restart() (conflict int32, ok bool) {
	s.undo(0)
	for _, l := range s.trail {
		s.value[l.v()] = 0
	}
	s.trail, s.head = s.trail[:0], 0
	for n := range s.rules {
		if conflict, ok := s.assert(int32(n)); !ok {
			return conflict, false
		}
	}
	return 0, true
}

// assert makes the literal of a unit rule true.
func (s *sat) assert(n int32) (conflict int32, ok bool) {
	r := &s.rules[n]
	if r.disabled || len(r.d) > 0 {
		return 0, true
	}
	switch s.truth(r.p) {
	case -1:
		return n, false
	case 0:
		s.assign(r.p, n)
	}
	return 0, true
}

// undo takes back every level above level.
func (s *sat) undo(level int) {
	if len(s.starts) <= level {
		return
	}
	start := s.starts[level]
	for _, l := range s.trail[start:] {
		s.value[l.v()] = 0
	}
	s.trail, s.starts = s.trail[:start], s.starts[:level]
	s.head = min(s.head, start)
	s.onUndo()
}

// propagate follows the consequences of the trail. It returns the rule or
// pair that can not hold, if there is one.
func (s *sat) propagate() (conflict int32, ok bool) {
	for s.head < len(s.trail) {
		l := s.trail[s.head]
		s.head++
		if l > 0 {
			if conflict, ok := s.propagateGroup(l); !ok {
				return conflict, false
			}
		}
		if conflict, ok := s.propagateRules(-l); !ok {
			return conflict, false
		}
	}
	return 0, true
}

// propagateGroup excludes the other versions of an installed package.
func (s *sat) propagateGroup(l lit) (conflict int32, ok bool) {
	g := s.groupOf[l]
	if g < 0 {
		return 0, true
	}
	for _, other := range s.groups[g] {
		if other == l {
			continue
		}
		switch s.value[other] {
		case 1:
			return s.pairOf(l, other), false
		case 0:
			s.assign(-other, s.pairOf(l, other))
		}
	}
	return 0, true
}

// propagateRules visits the rules that watch a literal which became false.
func (s *sat) propagateRules(gone lit) (conflict int32, ok bool) {
	list := s.watches[gone.code()]
	kept := list[:0]
	for i, n := range list {
		r := &s.rules[n]
		if r.disabled {
			kept = append(kept, n)
			continue
		}
		at := 0
		if r.watch[1] == gone {
			at = 1
		}
		other := r.watch[1-at]
		if s.truth(other) == 1 {
			kept = append(kept, n)
			continue
		}
		if l := s.replacement(r, other); l != 0 {
			r.watch[at] = l
			s.watches[l.code()] = append(s.watches[l.code()], n)
			continue
		}
		kept = append(kept, n)
		if s.truth(other) == -1 {
			kept = append(kept, list[i+1:]...)
			s.watches[gone.code()] = kept
			return n, false
		}
		s.assign(other, n)
	}
	s.watches[gone.code()] = kept
	return 0, true
}

// replacement finds a literal to watch that is not false.
func (s *sat) replacement(r *rule, other lit) lit {
	if r.p != other && s.truth(r.p) != -1 {
		return r.p
	}
	for _, l := range r.d {
		if l != other && s.truth(l) != -1 {
			return l
		}
	}
	return 0
}

// pairOf numbers a pair, as a cause.
func (s *sat) pairOf(a, b lit) int32 {
	if a > b {
		a, b = b, a
	}
	p := pair{a, b}
	n, ok := s.pairIndex[p]
	if !ok {
		n = int32(len(s.pairs))
		s.pairs = append(s.pairs, p)
		s.pairIndex[p] = n
	}
	return pairBase - n
}

// literals calls visit with every literal of a cause.
func (s *sat) literals(cause int32, visit func(lit)) {
	if cause <= pairBase {
		p := s.pairs[pairBase-cause]
		visit(-p.a)
		visit(-p.b)
		return
	}
	r := &s.rules[cause]
	visit(r.p)
	for _, l := range r.d {
		visit(l)
	}
}

// learn derives the rule that the conflict teaches, goes back to where it
// would have forced something, and follows it.
func (s *sat) learn(conflict int32) (int32, bool) {
	current := int32(len(s.starts))
	var clause, marked []lit
	why := []int32{conflict}
	open, atZero := 0, false
	mark := func(l lit) {
		v := l.v()
		if s.seen[v] {
			return
		}
		s.seen[v] = true
		marked = append(marked, v)
		switch {
		case s.level[v] == 0:
			atZero = true
		case s.level[v] == current:
			open++
		default:
			clause = append(clause, l)
		}
	}
	s.literals(conflict, mark)
	var point lit
	for i := len(s.trail) - 1; ; i-- {
		l := s.trail[i]
		if !s.seen[l.v()] {
			continue
		}
		if open--; open == 0 {
			point = -l
			break
		}
		why = append(why, s.cause[l.v()])
		s.literals(s.cause[l.v()], mark)
	}
	if atZero {
		why = append(why, s.facts()...)
	}
	for _, v := range marked {
		s.seen[v] = false
	}
	return s.follow(point, clause, why)
}

// follow goes back to the highest level of the clause's other literals, adds
// the learnt rule and asserts point.
func (s *sat) follow(point lit, clause []lit, why []int32) (int32, bool) {
	back, at := int32(0), 0
	for i, l := range clause {
		if s.level[l.v()] > back {
			back, at = s.level[l.v()], i
		}
	}
	if len(clause) > 0 {
		clause[0], clause[at] = clause[at], clause[0]
	}
	s.undo(int(back))
	n := s.add(rule{p: point, d: clause, learnt: true, why: why})
	s.assign(point, n)
	return 0, true
}

// facts returns the causes behind every marked value of level 0, and marks
// what those rest on. The marks of variables it adds are taken back.
func (s *sat) facts() []int32 {
	var why []int32
	var added []lit
	end := len(s.trail)
	if len(s.starts) > 0 {
		end = s.starts[0]
	}
	for i := end - 1; i >= 0; i-- {
		v := s.trail[i].v()
		if !s.seen[v] {
			continue
		}
		why = append(why, s.cause[v])
		s.literals(s.cause[v], func(l lit) {
			if !s.seen[l.v()] {
				s.seen[l.v()] = true
				added = append(added, l.v())
			}
		})
	}
	for _, v := range added {
		s.seen[v] = false
	}
	return why
}

// proof returns the causes of a conflict at level 0.
func (s *sat) proof(conflict int32) []int32 {
	var marked []lit
	s.literals(conflict, func(l lit) {
		if !s.seen[l.v()] {
			s.seen[l.v()] = true
			marked = append(marked, l.v())
		}
	})
	why := append([]int32{conflict}, s.facts()...)
	for _, v := range marked {
		s.seen[v] = false
	}
	return why
}

// expand replaces learnt rules by what they follow from.
func (s *sat) expand(causes []int32) []int32 {
	var out []int32
	done := map[int32]bool{}
	for len(causes) > 0 {
		c := causes[len(causes)-1]
		causes = causes[:len(causes)-1]
		if done[c] {
			continue
		}
		done[c] = true
		if c >= 0 && s.rules[c].learnt {
			causes = append(causes, s.rules[c].why...)
			continue
		}
		out = append(out, c)
	}
	slices.Sort(out)
	return out
}

// yield disables the last weak rule of a core, and what was learnt from it.
// It reports false if the core has none.
func (s *sat) yield(core []int32) bool {
	for _, c := range slices.Backward(core) {
		if c >= 0 && s.rules[c].weak {
			s.disable(c)
			return true
		}
	}
	return false
}

func (s *sat) disable(n int32) {
	s.rules[n].disabled = true
	for i := range s.rules {
		r := &s.rules[i]
		if r.learnt && slices.ContainsFunc(r.why, func(c int32) bool { return c >= 0 && s.rules[c].disabled }) {
			r.disabled = true
		}
	}
}
