package arch

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"strings"
	"testing"
)

// maxLines is how long a file may be that is no test, nor part of a package of
// test tools such as metadatatest. One that outgrows it is two files in one.
const maxLines = 500

// banned are names of packages that say nothing of what is in them.
var banned = []string{"util", "utils", "helper", "helpers", "common", "misc", "shared", "types"}

// source returns what the package's files break.
func (p *pkg) source() []string {
	if len(p.parts) == 0 {
		return nil // tests only
	}
	var wrong []string
	documented := false
	for _, f := range p.parts {
		documented = documented || documents(f)
		wrong = append(wrong, p.initFunctions(f)...)
		if n := p.files.File(f.Pos()).LineCount(); n > maxLines && !strings.HasSuffix(p.Path, "test") {
			wrong = append(wrong, fmt.Sprintf("%s has %d lines, more than %d", p.files.Position(f.Pos()).Filename, n, maxLines))
		}
	}
	name := p.parts[0].Name.Name
	if !documented {
		wrong = append(wrong, fmt.Sprintf("%s: no file begins with a comment that says what package %s is for", p.Path, name))
	}
	if slices.Contains(banned, name) {
		wrong = append(wrong, fmt.Sprintf("%s: package %s is named for nothing that one can point at", p.Path, name))
	}
	return append(wrong, p.globals()...)
}

func documents(f *ast.File) bool {
	text := f.Doc.Text()
	if f.Name.Name == "main" {
		return strings.HasPrefix(text, "Command ")
	}
	return strings.HasPrefix(text, "Package "+f.Name.Name+" ")
}

func (p *pkg) initFunctions(f *ast.File) []string {
	var wrong []string
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
			wrong = append(wrong, fmt.Sprintf("%s: func init: what is needed is handed over, not registered", p.files.Position(fn.Pos())))
		}
	}
	return wrong
}

// globals finds variables of the package that its functions change, or whose
// type is there to be changed. What is changed behind a pointer it does not see.
//
// Names are resolved by the type checker, so that a local variable of the same
// name is not taken for the package's. Its imports are left unresolved, which
// costs nothing that is needed here.
func (p *pkg) globals() []string {
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{}}
	check := types.Config{Importer: nowhere{}, Error: func(error) {}, FakeImportC: true}
	own, _ := check.Check(p.Path, p.files, p.parts, info) // its errors are those of the imports
	var wrong []string
	global := func(e ast.Expr) {
		id := root(e)
		if id == nil {
			return
		}
		if v, ok := info.Uses[id].(*types.Var); ok && v.Parent() == own.Scope() {
			wrong = append(wrong, fmt.Sprintf("%s: the package's variable %s is changed: state belongs to a value", p.files.Position(id.Pos()), id.Name))
		}
	}
	for _, f := range p.parts {
		wrong = append(wrong, p.locks(f)...)
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				if n.Tok != token.DEFINE {
					for _, e := range n.Lhs {
						global(e)
					}
				}
			case *ast.IncDecStmt:
				global(n.X)
			case *ast.CallExpr:
				if fn, ok := n.Fun.(*ast.Ident); ok && (fn.Name == "delete" || fn.Name == "clear" || fn.Name == "copy") && len(n.Args) > 0 {
					global(n.Args[0])
				}
			}
			return true
		})
	}
	return wrong
}

// locks finds package variables of package sync and sync/atomic: state to share.
func (p *pkg) locks(f *ast.File) []string {
	var wrong []string
	for _, d := range f.Decls {
		decl, ok := d.(*ast.GenDecl)
		if !ok || decl.Tok != token.VAR {
			continue
		}
		ast.Inspect(decl, func(n ast.Node) bool {
			if _, ok := n.(*ast.FuncLit); ok {
				return false // what a function declares is its own
			}
			if s, ok := n.(*ast.SelectorExpr); ok {
				if x, ok := s.X.(*ast.Ident); ok && (x.Name == "sync" || x.Name == "atomic") {
					wrong = append(wrong, fmt.Sprintf("%s: a variable of the package holds a %s.%s", p.files.Position(s.Pos()), x.Name, s.Sel.Name))
				}
			}
			return true
		})
	}
	return wrong
}

// root returns the variable that x, x.f, x[i], *x or (x) begins with.
func root(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.SelectorExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		default:
			return nil
		}
	}
}

// nowhere is an importer that finds nothing.
type nowhere struct{}

func (nowhere) Import(path string) (*types.Package, error) {
	return nil, fmt.Errorf("%s is not looked at", path)
}

func TestSourceThatBreaksARuleIsFound(t *testing.T) {
	const head = "// Package made is made up.\npackage made\n"
	for name, c := range map[string]struct {
		source, wants string // wants is part of the finding, "" for none
	}{
		"nothing wrong":            {head, ""},
		"no comment":               {"package made\n", "what package made is for"},
		"a comment apart":          {"// Package made is made up.\n\npackage made\n", "what package made is for"},
		"another comment":          {"// Made is made up.\npackage made\n", "what package made is for"},
		"a command":                {"// Command made is made up.\npackage main\n", ""},
		"a command, no comment":    {"package main\n", "what package main is for"},
		"a name for nothing":       {"// Package utils is made up.\npackage utils\n", "named for nothing"},
		"init":                     {head + "func init() {}\n", "func init"},
		"a method named init":      {head + "type t int\nfunc (t) init() {}\n", ""},
		"as long as may be":        {head + strings.Repeat("\n", maxLines-2), ""},
		"too long":                 {head + strings.Repeat("\n", maxLines-1), "more than 500"},
		"a table":                  {head + "var names = map[string]int{`a`: 1}\nfunc of(s string) int { return names[s] }\n", ""},
		"a registry":               {head + "var names = map[string]int{}\nfunc Register(s string) { names[s] = 1 }\n", "names is changed"},
		"a list that grows":        {head + "var all []int\nfunc Add(i int) { all = append(all, i) }\n", "all is changed"},
		"a counter":                {head + "var n int\nfunc Next() int { n++; return n }\n", "n is changed"},
		"deleted":                  {head + "var m = map[int]int{}\nfunc Drop(i int) { delete(m, i) }\n", "m is changed"},
		"a field":                  {head + "var s struct{ n int }\nfunc Set(i int) { s.n = i }\n", "s is changed"},
		"a local of that name":     {head + "var n int\nfunc F() int { n := 1; n++; return n }\n", ""},
		"a parameter of that name": {head + "var n int\nfunc F(n int) int { n++; return n }\n", ""},
		"imports unresolved":       {head + "import \"nowhere/x\"\nvar a = x.New()\nvar n int\nfunc F() { n = x.N() }\n", "n is changed"},
		"a lock":                   {head + "import \"sync\"\nvar mu sync.Mutex\n", "holds a sync.Mutex"},
		"a lock in a type":         {head + "import \"sync\"\ntype t struct{ mu sync.Mutex }\n", ""},
		"a function's lock":        {head + "import \"sync\"\nvar f = func() { var mu sync.Mutex; mu.Lock() }\n", ""},
		"a map to share":           {head + "import \"sync\"\nvar all = &sync.Map{}\n", "holds a sync.Map"},
	} {
		p := pkg{Path: "core/made", files: token.NewFileSet()}
		if err := p.add("made.go", c.source); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		wrong := strings.Join(p.source(), "\n")
		if (wrong == "") != (c.wants == "") || !strings.Contains(wrong, c.wants) {
			t.Errorf("%s: found %q, want %q", name, wrong, c.wants)
		}
	}
}
