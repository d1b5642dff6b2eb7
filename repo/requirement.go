package repo

import (
	"errors"
	"fmt"
	"strings"
)

// RichOp joins the parts of a rich dependency (rpm.org, "Boolean
// Dependencies").
type RichOp string

// The operators of rich dependencies.
const (
	And     RichOp = "and"
	Or      RichOp = "or"
	If      RichOp = "if"
	Unless  RichOp = "unless"
	With    RichOp = "with"
	Without RichOp = "without"
	Else    RichOp = "else" // only behind If or Unless
)

// Requirement is what a package asks for: one capability, or several joined
// by a rich operator. If Op is empty, Capability is meant, else Operands:
// two or more for And, Or and With; two for Without; two or three (the third
// is the else branch) for If and Unless.
type Requirement struct {
	Op         RichOp
	Capability Capability
	Operands   []Requirement
}

// Rich dependencies nest no deeper than any real package needs; the bound
// keeps hostile ones from exhausting the stack.
const maxRichDepth = 32

// ParseRequirement reads a capability or a rich dependency, such as
// "(a >= 1 or (b if c else d))".
func ParseRequirement(s string) (Requirement, error) {
	if len(s) > maxCapability {
		return Requirement{}, errors.New("cannot parse requirement: too long")
	}
	if !strings.HasPrefix(s, "(") {
		c, err := ParseCapability(s)
		return Requirement{Capability: c}, err
	}
	p := richParser{text: s}
	r, err := p.group(0)
	if err == nil && p.pos != len(s) {
		err = errors.New("text after the closing parenthesis")
	}
	if err != nil {
		return Requirement{}, fmt.Errorf("cannot parse rich dependency %q: %w", s, err)
	}
	return r, nil
}

// String returns the text form.
func (r Requirement) String() string {
	if r.Op == "" {
		return r.Capability.String()
	}
	parts := make([]string, len(r.Operands))
	for i, o := range r.Operands {
		parts[i] = o.String()
	}
	if (r.Op == If || r.Op == Unless) && len(parts) == 3 {
		return fmt.Sprintf("(%s %s %s else %s)", parts[0], r.Op, parts[1], parts[2])
	}
	return "(" + strings.Join(parts, " "+string(r.Op)+" ") + ")"
}

// Names returns the name of every capability in r, for looking them up.
func (r Requirement) Names() []string {
	if r.Op == "" {
		return []string{r.Capability.Name}
	}
	var names []string
	for _, o := range r.Operands {
		names = append(names, o.Names()...)
	}
	return names
}

type richParser struct {
	text string
	pos  int
}

// group reads "(" operand {op operand} ")".
func (p *richParser) group(depth int) (Requirement, error) {
	if depth > maxRichDepth {
		return Requirement{}, errors.New("nested too deep")
	}
	p.pos++ // the opening parenthesis
	first, err := p.operand(depth)
	if err != nil {
		return Requirement{}, err
	}
	r := Requirement{Operands: []Requirement{first}}
	for {
		p.spaces()
		if p.pos < len(p.text) && p.text[p.pos] == ')' {
			p.pos++
			return p.finish(r)
		}
		if err := p.operator(&r); err != nil {
			return Requirement{}, err
		}
		next, err := p.operand(depth)
		if err != nil {
			return Requirement{}, err
		}
		r.Operands = append(r.Operands, next)
	}
}

// finish drops the parentheses around a single operand.
func (p *richParser) finish(r Requirement) (Requirement, error) {
	if r.Op == "" {
		return r.Operands[0], nil
	}
	return r, nil
}

// operator reads the next operator and checks that it may stand here.
func (p *richParser) operator(r *Requirement) error {
	op := RichOp(p.word())
	switch {
	case op == Else:
		if (r.Op != If && r.Op != Unless) || len(r.Operands) != 2 {
			return errors.New("else without if or unless")
		}
	case r.Op == "":
		switch op {
		case And, Or, If, Unless, With, Without:
			r.Op = op
		default:
			return fmt.Errorf("unknown operator %q", op)
		}
	case op != r.Op:
		return fmt.Errorf("%q and %q need parentheses", r.Op, op)
	case op != And && op != Or && op != With:
		return fmt.Errorf("%q can not be chained", op)
	}
	return nil
}

func (p *richParser) operand(depth int) (Requirement, error) {
	p.spaces()
	if p.pos >= len(p.text) {
		return Requirement{}, errors.New("no closing parenthesis")
	}
	if p.text[p.pos] == '(' {
		return p.group(depth + 1)
	}
	parts := []string{p.word()}
	if op := Op(p.peek()); op == Less || op == LessEqual || op == Equal || op == GreaterEqual || op == Greater {
		parts = append(parts, p.word(), p.word())
	}
	c, err := ParseCapability(strings.Join(parts, " "))
	return Requirement{Capability: c}, err
}

func (p *richParser) spaces() {
	for p.pos < len(p.text) && p.text[p.pos] == ' ' {
		p.pos++
	}
}

func (p *richParser) peek() string {
	pos := p.pos
	w := p.word()
	p.pos = pos
	return w
}

// word reads up to a space or a closing parenthesis that no parenthesis in
// the word itself opened: "libc.so.6(GLIBC_2.4)(64bit)" is one word.
func (p *richParser) word() string {
	p.spaces()
	start, open := p.pos, 0
	for ; p.pos < len(p.text); p.pos++ {
		switch p.text[p.pos] {
		case ' ':
			if open == 0 {
				return p.text[start:p.pos]
			}
		case '(':
			open++
		case ')':
			if open == 0 {
				return p.text[start:p.pos]
			}
			open--
		}
	}
	return p.text[start:p.pos]
}
