package program

import (
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// narrow returns the part of a grammar that a command line is about, if its
// first argument names a command: building those that nobody asked for costs
// more than most commands do. The man page shows them all.
func narrow(grammar any, args []string) any {
	if len(args) == 0 || slices.Contains(args, "--man") {
		return grammar
	}
	n := narrowing{name: args[0]}
	n.visit(reflect.ValueOf(grammar).Elem())
	if n.mixed || n.command == nil {
		return grammar
	}
	only := reflect.New(reflect.StructOf([]reflect.StructField{*n.command}))
	return &struct{ kong.Plugins }{append(n.flags, only.Interface())}
}

// narrowing looks for one command in a grammar whose structs have either
// commands or flags.
type narrowing struct {
	name    string
	flags   kong.Plugins         // pointers to the structs of flags
	command *reflect.StructField // that has the name
	mixed   bool                 // a struct has both, besides what is embedded
}

// visit reports whether there are commands in v.
func (n *narrowing) visit(v reflect.Value) (commands bool) {
	plain := false
	for i := range v.NumField() {
		field := v.Type().Field(i)
		_, command := field.Tag.Lookup("cmd")
		_, embedded := field.Tag.Lookup("embed")
		switch {
		case command:
			commands = true
			if strings.ToLower(field.Name) == n.name {
				field.Index, field.Offset = nil, 0
				n.command = &field
			}
		case (embedded || field.Anonymous) && field.Type.Kind() == reflect.Struct:
			before := len(n.flags)
			if n.visit(v.Field(i)) {
				commands = true
			} else { // flags only, and those of what it embeds
				n.flags = append(n.flags[:before], v.Field(i).Addr().Interface())
			}
		default:
			plain = true
		}
	}
	n.mixed = n.mixed || commands && plain
	return commands
}
