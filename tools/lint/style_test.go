package lint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	maxFileLines     = 500
	maxFunctionLines = 100
)

// writers are the calls of package os that change what must not be lost.
// State is written through repo/durable, where the order is right and tests
// inject faults.
var writers = []string{"WriteFile", "Rename", "Create", "Link", "Symlink"}

// mayWrite lists the packages that call them directly, each with its reason.
var mayWrite = map[string]string{
	"stork/repo/durable":      "it is the one place",
	"stork/tools/testbed":     "its files are scratch",
	"stork/tools/testbed/box": "its files are scratch",
	"stork/tools/bench":       "its files are scratch",
	"stork/fixtures":          "its files are scratch",
	"stork/client/scriptlet":  "a scriptlet's body is scratch, removed after it ran",
}

func TestStyle(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		for _, name := range p.GoFiles {
			fset := token.NewFileSet()
			file, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			checkSizes(t, fset, file)
			checkWriters(t, p.ImportPath, fset, file)
			checkPackageNames(t, p.ImportPath)
		}
	}
}

func checkSizes(t *testing.T, fset *token.FileSet, file *ast.File) {
	if lines := fset.Position(file.End()).Line; lines > maxFileLines {
		t.Errorf("%s has %d lines, over %d", fset.Position(file.Pos()).Filename, lines, maxFileLines)
	}
	for _, decl := range file.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok {
			continue
		}
		if lines := fset.Position(f.End()).Line - fset.Position(f.Pos()).Line; lines > maxFunctionLines {
			t.Errorf("%s: %s has %d lines, over %d", fset.Position(f.Pos()), f.Name.Name, lines, maxFunctionLines)
		}
	}
}

func checkWriters(t *testing.T, path string, fset *token.FileSet, file *ast.File) {
	if _, ok := mayWrite[path]; ok {
		return
	}
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := call.X.(*ast.Ident); ok && x.Name == "os" && slices.Contains(writers, call.Sel.Name) {
			t.Errorf("%s: os.%s outside repo/durable", fset.Position(call.Pos()), call.Sel.Name)
		}
		return true
	})
}

func checkPackageNames(t *testing.T, path string) {
	for element := range strings.SplitSeq(path, "/") {
		if slices.Contains([]string{"util", "utils", "common", "helpers", "misc"}, element) {
			t.Errorf("%s: name the package after what it does", path)
		}
	}
}

// TestEveryPackageIsDocumented wants a package comment that says what to use
// first.
func TestEveryPackageIsDocumented(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		if len(p.GoFiles) > 0 && !documented(t, p) {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

func documented(t *testing.T, p pkg) bool {
	for _, name := range p.GoFiles {
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		if file.Doc != nil {
			return true
		}
	}
	return false
}
