package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/web"
)

// repository is the repository's folder, seen from this package's.
const repository = "../.."

func docText(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// allDocs returns README.md and everything in docs, by path.
func allDocs(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{"README.md": docText(t, "README.md")}
	err := filepath.WalkDir(filepath.Join(repository, "docs"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".md" {
			return err
		}
		name, err := filepath.Rel(repository, path)
		all[name] = docText(t, name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// tableIn returns the cells of every row of the tables in a document whose first
// column has this title, by that column's text without its backticks.
func tableIn(t *testing.T, name, title string) map[string][]string {
	t.Helper()
	rows := map[string][]string{}
	inside := false
	for line := range strings.Lines(docText(t, name)) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			inside = false
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.Trim(strings.TrimSpace(cells[i]), "`")
		}
		switch {
		case cells[0] == title:
			inside = true
		case inside && strings.Trim(cells[0], "-") != "":
			if rows[cells[0]] != nil {
				t.Errorf("%s: %s stands twice", name, cells[0])
			}
			rows[cells[0]] = cells
		}
	}
	return rows
}

// sameNames compares what a document lists with what there is, in both directions.
func sameNames(t *testing.T, name string, listed, there []string) {
	t.Helper()
	for _, one := range there {
		if !slices.Contains(listed, one) {
			t.Errorf("%s does not list %s", name, one)
		}
	}
	for _, one := range listed {
		if !slices.Contains(there, one) {
			t.Errorf("%s lists %s, which does not exist", name, one)
		}
	}
}

func namesIn[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// declaredCodes returns the values of the constants of type Code.
func declaredCodes(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(repository, "errors.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && spec.Type != nil && fmt.Sprint(spec.Type) == "Code" {
			for _, v := range spec.Values {
				value, err := strconv.Unquote(v.(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, value)
			}
		}
		return true
	})
	return all
}

func TestEveryErrorCodeIsDocumentedAsItIs(t *testing.T) {
	const name = "docs/errors.md"
	listed, there := tableIn(t, name, "Code"), declaredCodes(t)
	if len(there) < 30 {
		t.Fatalf("errors.go has %d codes", len(there))
	}
	sameNames(t, name, namesIn(listed), there)
	for code, cells := range listed {
		status := web.Status(eider.Code(code))
		if len(cells) != 4 || cells[1] != strconv.Itoa(status) {
			t.Errorf("%s: the row of %s is %q, its status %d", name, code, cells, status)
		}
		if status == 500 && code != string(eider.Internal) {
			t.Errorf("%s has no status of its own", code)
		}
	}
}

func TestEveryExitCodeIsDocumented(t *testing.T) {
	there := []string{"0", "1"}
	for _, e := range exits {
		there = append(there, strconv.Itoa(e.code))
	}
	sameNames(t, "docs/operating.md", namesIn(tableIn(t, "docs/operating.md", "Exit code")), there)
}

var metricFamily = regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`)

func TestEveryMetricFamilyIsDocumentedAsItIs(t *testing.T) {
	s := start(t, nil)
	project(t, s, "p")
	s.Want(200, s.Root, "GET /projects/p", "")
	listed := tableIn(t, "docs/operating.md", "Family")
	there := map[string]string{}
	for _, m := range metricFamily.FindAllStringSubmatch(string(s.Want(200, "", "GET /metrics", "").Body), -1) {
		if !strings.HasPrefix(m[1], "go_") && !strings.HasPrefix(m[1], "process_") {
			there[m[1]] = m[2]
		}
	}
	sameNames(t, "docs/operating.md", namesIn(listed), namesIn(there))
	for name, cells := range listed {
		if cells[1] != there[name] {
			t.Errorf("%s is documented as a %s and is a %s", name, cells[1], there[name])
		}
	}
}

var (
	docCode  = regexp.MustCompile("`([^`\n]+)`")
	docLink  = regexp.MustCompile(`\]\(([^)#]+)[^)]*\)`)
	docBlock = regexp.MustCompile("(?s)```.*?```")
)

func TestSettingsAndCommandsThatTheDocsNameExist(t *testing.T) {
	a, err := app.New(app.Options{Modules: modules()})
	if err != nil {
		t.Fatal(err)
	}
	known, sections := map[string]bool{}, map[string]bool{}
	for _, setting := range a.Registry.Settings.Settings() {
		known[setting.Name] = true
		section, _, _ := strings.Cut(setting.Name, ".")
		sections[section] = true
	}
	dotted := regexp.MustCompile(`^([a-z]+)\.[a-z_]+(\.[a-z_]+)*$`)
	seen := 0
	for name, text := range allDocs(t) {
		for _, m := range docCode.FindAllStringSubmatch(docBlock.ReplaceAllString(text, ""), -1) {
			if d := dotted.FindStringSubmatch(m[1]); d != nil && sections[d[1]] && !known[m[1]] && !strings.HasPrefix(m[1], "metadata.duckdb") && m[1] != "metadata.read" {
				t.Errorf("%s names the setting %s, which does not exist", name, m[1])
			}
			words := strings.Fields(m[1])
			if words[0] != "eider" || len(words) == 1 {
				continue
			}
			seen++
			found, rest, err := command().Find(words[1:])
			if err != nil || found.HasSubCommands() && len(rest) > 0 || !found.HasParent() {
				t.Errorf("%s names the command %q, which does not exist", name, m[1])
			} else if err := found.ParseFlags(rest); err != nil {
				t.Errorf("%s names %q: %v", name, m[1], err)
			}
		}
	}
	if seen < 5 {
		t.Errorf("the documents name %d commands", seen)
	}
}

func TestLinksInTheDocsLeadSomewhere(t *testing.T) {
	for name, text := range allDocs(t) {
		for _, m := range docLink.FindAllStringSubmatch(docBlock.ReplaceAllString(text, ""), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(repository, filepath.Dir(name), m[1])); err != nil {
				t.Errorf("%s links to %s, which does not exist", name, m[1])
			}
		}
	}
}

func TestCodeInTheGuideToModulesIsTheExamples(t *testing.T) {
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(docText(t, "docs/writing-a-module.md"), -1)
	example := docText(t, "examples/notes/notes.go")
	for _, b := range blocks {
		if !strings.Contains(example, b[1]) {
			t.Errorf("examples/notes/notes.go does not hold\n%s", b[1])
		}
	}
	if len(blocks) == 0 {
		t.Error("the guide shows no code")
	}
}

func TestDecisionsAreListedInTheirIndex(t *testing.T) {
	index := docText(t, "docs/decisions/README.md")
	files, err := filepath.Glob(filepath.Join(repository, "docs/decisions/[0-9]*.md"))
	if err != nil || len(files) < 10 {
		t.Fatalf("%d decisions, %v", len(files), err)
	}
	numbers := map[string]string{}
	for _, f := range files {
		name := filepath.Base(f)
		if !strings.Contains(index, "("+name+")") {
			t.Errorf("the index does not list %s", name)
		}
		if other := numbers[name[:4]]; other != "" {
			t.Errorf("%s and %s have one number", name, other)
		}
		numbers[name[:4]] = name
	}
	if !strings.Contains(numbers["0004"], "foreign-keys") { // the code refers to it by number
		t.Errorf("decision 0004 is %q", numbers["0004"])
	}
}

var requireBlock = regexp.MustCompile(`(?s)require \((.*?)\)`)

func TestEveryDirectDependencyHasItsReason(t *testing.T) {
	const name = "docs/decisions/0009-dependencies.md"
	var there []string
	for line := range strings.Lines(requireBlock.FindStringSubmatch(docText(t, "go.mod"))[1]) {
		if module, _, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			there = append(there, module)
		}
	}
	sameNames(t, name, namesIn(tableIn(t, name, "Module")), there)
}

func TestEveryPackageIsDescribed(t *testing.T) {
	const name = "docs/architecture.md"
	var there []string
	for _, pattern := range []string{"core/*", "modules/*", "cmd/*"} {
		found, err := filepath.Glob(filepath.Join(repository, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range found {
			if info, err := os.Stat(path); err == nil && info.IsDir() {
				there = append(there, strings.TrimPrefix(path, repository+"/"))
			}
		}
	}
	sameNames(t, name, namesIn(tableIn(t, name, "Package")), append(there, "eider", "core"))
}
