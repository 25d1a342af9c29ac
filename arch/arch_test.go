// Package arch holds the shape of the repository as a test: who may import
// whom, and what no source file may do.
//
// The rules are functions of what `go list` and the parser say of a package, so
// that each is tried on made-up packages that break it. A new top-level folder
// needs a line in the table of layers.
package arch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const modulePath = "github.com/eiderdb/eider"

func TestRepositoryKeepsItsRules(t *testing.T) {
	all, err := load("..")
	if err != nil {
		t.Fatal(err)
	}
	if err := look(".."); err != nil {
		t.Fatal(err)
	}
	if len(all) < 20 {
		t.Fatalf("only %d packages were found", len(all))
	}
	for _, p := range all {
		for _, wrong := range append(p.imports(), p.source()...) {
			t.Error(wrong)
		}
	}
}

// look reads the folders, so that `go test` does not answer from its cache when
// a package has come: it sees what this process reads, not what `go list` does.
func look(root string) error {
	return filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() && filepath.Dir(path) == root && layers[d.Name()] == nil {
			return filepath.SkipDir // build results, a data folder
		}
		return err
	})
}

// pkg is a package as the rules see it.
type pkg struct {
	Path        string // within the module; "." is the root
	Imports     []string
	TestImports []string // of the tests in it and beside it

	files *token.FileSet
	parts []*ast.File // without tests
}

// listed is what `go list` says of a package.
type listed struct {
	ImportPath, Dir                    string
	Imports, TestImports, XTestImports []string
	GoFiles, CgoFiles, IgnoredGoFiles  []string
}

// load lists and parses every package of the module at root.
func load(root string) ([]pkg, error) {
	list := exec.Command("go", "list", "-e", "-tags", "duckdb_arrow", "-json=ImportPath,Dir,Imports,TestImports,XTestImports,GoFiles,CgoFiles,IgnoredGoFiles", "./...")
	list.Dir = root
	list.Stderr = os.Stderr
	text, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	var all []pkg
	for d := json.NewDecoder(bytes.NewReader(text)); ; {
		var l listed
		if err := d.Decode(&l); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("read what go list says: %w", err)
		}
		p, err := l.parse()
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
}

func (l listed) parse() (pkg, error) {
	p := pkg{
		Path: within(l.ImportPath), Imports: l.Imports, TestImports: append(l.TestImports, l.XTestImports...), files: token.NewFileSet(),
	}
	// A file for another system or tag is source like any other.
	for _, name := range slices.Concat(l.GoFiles, l.CgoFiles, l.IgnoredGoFiles) {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(l.Dir, name))
		if err != nil {
			return p, err
		}
		if err := p.add(name, string(text)); err != nil {
			return p, err
		}
	}
	return p, nil
}

func (p *pkg) add(name, text string) error {
	f, err := parser.ParseFile(p.files, filepath.Join(p.Path, name), text, parser.ParseComments|parser.SkipObjectResolution)
	if err == nil {
		p.parts = append(p.parts, f)
	}
	return err
}

// within returns the path inside the module, "." for its root, and "" for a
// package of another.
func within(importPath string) string {
	if importPath == modulePath {
		return "."
	}
	path, ours := strings.CutPrefix(importPath, modulePath+"/")
	if !ours {
		return ""
	}
	return path
}
