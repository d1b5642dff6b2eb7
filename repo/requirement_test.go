package repo

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestParseRequirement(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text, out string // out "": as it came in
		op        RichOp
		names     []string
	}{
		{"a", "", "", []string{"a"}},
		{"a >= 1:2-3", "", "", []string{"a"}},
		{"libc.so.6(GLIBC_2.34)(64bit)", "", "", []string{"libc.so.6(GLIBC_2.34)(64bit)"}},
		{"/usr/bin/perl", "", "", []string{"/usr/bin/perl"}},
		{"(a)", "a", "", []string{"a"}},
		{"(a and b)", "", And, []string{"a", "b"}},
		{"(a or b or c)", "", Or, []string{"a", "b", "c"}},
		{"(a with b with c)", "", With, []string{"a", "b", "c"}},
		{"(a without b)", "", Without, []string{"a", "b"}},
		{"(a if b)", "", If, []string{"a", "b"}},
		{"(a if b else c)", "", If, []string{"a", "b", "c"}},
		{"(a unless b else c)", "", Unless, []string{"a", "b", "c"}},
		{"(a >= 1 or (b if c else d))", "", Or, []string{"a", "b", "c", "d"}},
		{"( a  and   b )", "(a and b)", And, []string{"a", "b"}},
		{"((a) and ((b)))", "(a and b)", And, []string{"a", "b"}},
		{"(x(y) and z(a)(b) = 1)", "", And, []string{"x(y)", "z(a)(b)"}},
		{"((a and b) or (c with d))", "", Or, []string{"a", "b", "c", "d"}},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			t.Parallel()
			r, err := ParseRequirement(tt.text)
			if err != nil {
				t.Fatal(err)
			}
			if tt.out == "" {
				tt.out = tt.text
			}
			if r.String() != tt.out || r.Op != tt.op || !slices.Equal(r.Names(), tt.names) {
				t.Errorf("%q, op %q, names %q; want %q, %q, %q", r, r.Op, r.Names(), tt.out, tt.op, tt.names)
			}
		})
	}
}

func TestParseRequirementRefuses(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{
		"", " ", "a b", "a >", "a > ", "a ~ 1", "a > 1 2", "a  > 1", "a\tb", "a\x00", "()", "(", "(a", "(a and", "(a and b",
		"(a and b) c", "(a b)", "(a nor b)", "(a and b or c)", "(a if b if c)", "(a without b without c)",
		"(a else b)", "(a and b else c)", "(a if b else c else d)", "(a > 1", "(a))",
		strings.Repeat("(", 40) + "a" + strings.Repeat(")", 40), strings.Repeat("a", 4097),
	} {
		if got, err := ParseRequirement(bad); err == nil {
			t.Errorf("ParseRequirement(%q) = %q, want an error", bad, got)
		}
	}
}

func FuzzParseRequirement(f *testing.F) {
	for _, seed := range []string{
		"a", "a >= 1:2-3", "(a and b)", "(a if b else c)", "((a or b) unless (c with d >= 2))",
		"(x(y)(z) and )", "(((", "(a and b) ", "(if if if)", "(a <> 1 and b)",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRequirement(s)
		if err != nil {
			return
		}
		again, err := ParseRequirement(r.String())
		if err != nil || !reflect.DeepEqual(r, again) {
			t.Errorf("%q is %q, read again %q, %v", s, r, again, err)
		}
		if len(r.Names()) == 0 {
			t.Errorf("%q names nothing", s)
		}
	})
}
