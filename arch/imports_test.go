package arch

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// layers says for each top-level folder which others its packages may import:
// cmd -> modules -> core -> eider.
var layers = map[string][]string{
	".":        {},
	"core":     {".", "core"},
	"modules":  {".", "core"},
	"examples": {".", "core"},
	"cmd":      {".", "core", "modules", "sdk", "plugins"},
	"bench":    {".", "core", "bench"},
	"sdk":      {".", "sdk"},
	"plugins":  {".", "sdk"},
	"arch":     {},
}

// owners are the packages that alone may import what stands behind a prefix.
// bench/bare is the yardstick that Fiber is measured by, and bench measures the
// engine alone.
var owners = map[string][]string{
	"github.com/duckdb/duckdb-go":        {"core/duck"},
	"github.com/marcboeker/go-duckdb":    {},
	"github.com/gofiber/fiber":           {"core/web", "bench/bare"},
	"github.com/valyala/fasthttp":        {"core/web"},
	"github.com/tetratelabs/wazero":      {"core/wasm"},
	modulePath + "/core/metadata/duckdb": {"core/app", "cmd", "bench", "core/metadata/duckdb"},
}

// leaves are packages under core that import nothing of Eider but its words.
var leaves = []string{"core/config", "core/disk", "core/duck", "core/schema", "core/telemetry"}

// imports returns what the package's imports break.
func (p *pkg) imports() []string {
	var wrong []string
	if layers[top(p.Path)] == nil {
		return []string{fmt.Sprintf("%s: the folder %s has no line in the table of layers", p.Path, top(p.Path))}
	}
	for _, path := range p.Imports {
		wrong = append(wrong, p.layered(path, false)...)
		wrong = append(wrong, p.owned(path)...)
		if slices.Contains(leaves, p.Path) && within(path) != "" && within(path) != "." {
			wrong = append(wrong, fmt.Sprintf("%s is a leaf and imports %s", p.Path, path))
		}
	}
	for _, path := range p.TestImports {
		wrong = append(wrong, p.layered(path, true)...)
		// A test may open the metadata engine: it is the real one.
		if path != modulePath+"/core/metadata/duckdb" {
			wrong = append(wrong, p.owned(path)...)
		}
	}
	return wrong
}

// layered holds the import against the layers. A test in modules and examples
// may besides put a server together, as cmd does.
func (p *pkg) layered(path string, test bool) []string {
	from, to := p.Path, within(path)
	if from == "." && strings.Contains(strings.Split(path, "/")[0], ".") && (!test || to != ".") {
		return []string{fmt.Sprintf("eider imports %s, and may import the standard library only", path)}
	}
	if to == "" || from == to {
		return nil
	}
	var wrong []string
	feature := top(from) == "modules" || top(from) == "examples"
	server := under(to, "core/app") || top(to) == "modules"
	switch {
	case test && feature && server:
	case feature && top(to) == "modules":
		wrong = append(wrong, fmt.Sprintf("%s imports the module %s: they meet in an operation, a hook or the kernel", from, to))
	case feature && under(to, "core/app"):
		wrong = append(wrong, fmt.Sprintf("%s imports %s: a module does not know the server that it is in", from, to))
	case !slices.Contains(layers[top(from)], top(to)):
		wrong = append(wrong, fmt.Sprintf("%s imports %s: against cmd -> modules -> core -> eider", from, to))
	}
	if to == "core" && top(from) == "core" && !under(from, "core/app") {
		wrong = append(wrong, fmt.Sprintf("%s imports core, which only core/app may under core", from))
	}
	return wrong
}

func (p *pkg) owned(path string) []string {
	for prefix, allowed := range owners {
		if path != prefix && !strings.HasPrefix(path, prefix+"/") {
			continue
		}
		if !slices.ContainsFunc(allowed, func(owner string) bool { return under(p.Path, owner) }) {
			return []string{fmt.Sprintf("%s imports %s, which only %v may", p.Path, path, allowed)}
		}
	}
	return nil
}

func top(path string) string {
	folder, _, _ := strings.Cut(path, "/")
	return folder
}

// under reports whether the path is the folder or lies in it.
func under(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, folder+"/")
}

func TestImportsThatBreakARuleAreFound(t *testing.T) {
	const ours = modulePath + "/"
	for _, c := range []struct {
		from, to string
		code     bool // whether code may import it
		test     bool // whether a test may
	}{
		{".", "strings", true, true},
		{".", "github.com/google/uuid", false, false},
		{".", "golang.org/x/sys/unix", false, false},
		{".", ours + "core/disk", false, false},
		{".", modulePath, false, true}, // its own test beside it
		{"core/auth", modulePath, true, true},
		{"core/auth", ours + "core/metadata", true, true},
		{"core/auth", ours + "core/metadata/duckdb", false, true},
		{"core/auth", ours + "core", false, false},
		{"core/operation", ours + "modules/projects", false, false},
		{"core/app", ours + "core", true, true},
		{"core/app/apptest", ours + "core", true, true},
		{"core/application", ours + "core", false, false},
		{"core/app", ours + "modules/projects", false, false},
		{"core/disk", ours + "core/config", false, true},
		{"core/disk", modulePath, true, true},
		{"core", ours + "core/operation", true, true},
		{"core", ours + "cmd/eider", false, false},
		{"modules/keys", ours + "core", true, true},
		{"modules/keys", ours + "core/operation", true, true},
		{"modules/keys", ours + "core/app", false, true},
		{"modules/keys", ours + "core/app/apptest", false, true},
		{"modules/keys", ours + "modules/projects", false, true},
		{"modules/keys", ours + "modules/keys/sub", false, true},
		{"modules/keys", ours + "cmd/eider", false, false},
		{"modules/keys", ours + "core/metadata/duckdb", false, true},
		{"examples/notes", ours + "core", true, true},
		{"examples/notes", ours + "modules/projects", false, true},
		{"examples/notes", ours + "examples/other", false, false},
		{"cmd/eider", ours + "modules/projects", true, true},
		{"cmd/eider", ours + "core/app", true, true},
		{"cmd/eider", ours + "examples/notes", false, false},
		{"plugins/quota", ours + "sdk/go", true, true},
		{"plugins/quota", ours + "core/policy", false, false},
		{"sdk/client", modulePath, true, true},
		{"sdk/client", ours + "core", false, false},
		{"core/duck", "github.com/duckdb/duckdb-go/v2", true, true},
		{"core/duck", "github.com/marcboeker/go-duckdb", false, false},
		{"core/ducks", "github.com/duckdb/duckdb-go/v2", false, false},
		{"core/metadata/duckdb", "github.com/duckdb/duckdb-go/v2", false, false},
		{"cmd/eider", "github.com/duckdb/duckdb-go/v2/arrowmapping", false, false},
		{"core/wasm", "github.com/tetratelabs/wazero", true, true},
		{"core/wasm/fuel", "github.com/tetratelabs/wazero/api", true, true},
		{"core/policy", "github.com/tetratelabs/wazero", false, false},
		{"core/web", "github.com/gofiber/fiber/v2", true, true},
		{"core/web", "github.com/valyala/fasthttp", true, true},
		{"bench/bare", "github.com/gofiber/fiber/v2", true, true},
		{"bench/bare", "github.com/valyala/fasthttp", false, false},
		{"core/app", "github.com/gofiber/fiber/v2/middleware/cors", false, false},
		{"utils", "strings", false, false},
	} {
		code, test := pkg{Path: c.from, Imports: []string{c.to}}, pkg{Path: c.from, TestImports: []string{c.to}}
		if wrong := code.imports(); (len(wrong) == 0) != c.code {
			t.Errorf("%s imports %s: found %q, should be allowed %v", c.from, c.to, wrong, c.code)
		}
		if wrong := test.imports(); (len(wrong) == 0) != c.test {
			t.Errorf("a test in %s imports %s: found %q, should be allowed %v", c.from, c.to, wrong, c.test)
		}
	}
}
