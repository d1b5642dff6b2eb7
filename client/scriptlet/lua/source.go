package lua

import (
	"reflect"
	"strings"

	lua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/ast"
	"github.com/yuin/gopher-lua/parse"
)

// load compiles a script; where names it in messages.
//
// A fork whose continuation can not be a function of its own (it breaks out
// of a loop, say) makes the rewritten script invalid; the script is then
// compiled as it is, and that fork is an error if it is reached.
func (s *session) load(script, where string) (*lua.LFunction, error) {
	var failed error
	for _, forks := range []bool{true, false} {
		chunk, err := parse.Parse(strings.NewReader(script), where)
		if err != nil {
			return nil, err
		}
		r := rewriter{forks: forks, vararg: true}
		chunk = r.statements(chunk)
		proto, err := lua.Compile(chunk, where)
		if err == nil {
			return s.state.NewFunctionFromProto(proto), nil
		}
		failed = err
	}
	return nil, failed
}

// rewriter changes a script's syntax tree to what rpm's Lua would have run.
type rewriter struct {
	forks  bool
	vararg bool // the function around has "..."
}

var statementsType = reflect.TypeFor[[]ast.Stmt]()

// statements rewrites a block and returns it.
func (r rewriter) statements(block []ast.Stmt) []ast.Stmt {
	for i := range block {
		r.walk(reflect.ValueOf(block[i]))
	}
	if r.forks {
		r.forkStatements(block)
	}
	return block
}

// walk visits all of a node. Numbers lose leading zeros: 0555 is a decimal
// number in Lua, which posix.chmod reads as octal digits, but gopher-lua
// reads it as Go does.
func (r rewriter) walk(v reflect.Value) {
	switch v.Kind() {
	case reflect.Interface:
		r.walk(v.Elem())
	case reflect.Pointer:
		switch node := v.Interface().(type) {
		case *ast.NumberExpr:
			node.Value = decimal(node.Value)
		case *ast.FunctionExpr:
			r.vararg = node.ParList.HasVargs
			r.statements(node.Stmts)
		default:
			r.walk(v.Elem())
		}
	case reflect.Slice:
		if v.Type() == statementsType {
			r.statements(v.Interface().([]ast.Stmt))
			return
		}
		for i := range v.Len() {
			r.walk(v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				r.walk(v.Field(i))
			}
		}
	}
}

func decimal(number string) string {
	if len(number) < 2 || number[0] != '0' || number[1] < '0' || number[1] > '9' {
		return number
	}
	rest := strings.TrimLeft(number, "0")
	if rest == "" || rest[0] < '0' || rest[0] > '9' {
		return "0" + rest
	}
	return rest
}
