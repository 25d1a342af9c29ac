package wasm

import (
	"strings"
	"testing"

	"github.com/eiderdb/eider/core/usage"
)

// uploading is an event with something in every member.
func uploading() *Event {
	return &Event{
		Operation: "upload_file", TimeMS: 1764225600123,
		Actor:    EventActor{Type: "key", ID: "k1", Name: "loader", Role: "project_write", ProjectID: "sales"},
		Resource: EventResource{Type: "file", ID: ""},
		Project:  &EventProject{ID: "sales-eu", UID: "0193", Name: "Sales", Status: "active", Settings: rawJSON(`{"quota":{"bytes":1000},"tags":["a","b"]}`)},
		Usage:    EventUsage{Project: usage.Amounts{Bytes: 900, Files: 3}, Server: usage.Amounts{Bytes: 90000}, Adds: usage.Amounts{Bytes: 100, Files: 1}},
		Request:  EventRequest{ID: "r", SourceIP: "10.0.0.7", Method: "POST", Route: "/projects/{id}/files"},
		Input:    rawJSON(`{"name":"a.csv","size":9007199254740993,"ratio":0.5,"deep":{"list":[1,2,3]}}`),
	}
}

func manifestWith(kind, when string) Manifest { return Manifest{Kind: kind, When: when} }

// An expression sees every member of an event. One that fails on an event, or gives
// neither true nor false, has the policy asked.
func TestAFilterSeesTheWholeEvent(t *testing.T) {
	for _, c := range []struct {
		when string
		want bool
	}{
		{`operation == "upload_file"`, true},
		{`operation in ["query", "import_table"]`, false},
		{`operation.startsWith("upload_") && request.method == "POST"`, true},
		{`usage.adds.bytes > 0 || usage.adds.files > 0`, true},
		{`usage.adds.tables > 0`, false},
		{`usage.project.bytes + usage.adds.bytes > 1000`, false},
		{`usage.server.bytes >= 90000 && usage.project.rows == 0`, true},
		{`actor.role == "admin" || actor.type == "root"`, false},
		{`actor.id == "k1" && actor.name == "loader" && actor.project_id == "sales"`, true},
		{`resource.type == "file" && resource.id == ""`, true},
		{`project.id.matches("^sales-") && project.status == "active" && project.uid == "0193"`, true},
		{`project.settings.quota.bytes == 1000 && "b" in project.settings.tags`, true},
		{`has(project.settings.quota) && !has(project.settings.limits)`, true},
		{`request.route == "/projects/{id}/files" && request.source_ip.startsWith("10.")`, true},
		{`time_ms == 1764225600123`, true},
		{`input.name.endsWith(".csv") && input.size == 9007199254740993`, true}, // no float holds that
		{`input.ratio < 1.0 && input.deep.list.exists(n, n == 3)`, true},
		{`size(input.deep.list) > 3`, false},
		// What fails on this event.
		{`input.missing == "x"`, true},
		{`usage.adds.gold > 0`, true},
		{`input.name > 3`, true},
		{`input.name`, true}, // a text
		{`input.size / 0 == 1`, true},
		{`input.missing == "x" || operation == "upload_file"`, true},
		{`input.missing == "x" && operation == "query"`, false}, // the other side decides it
		{`"` + strings.Repeat("a", 3800) + `".contains(input.name + input.name) || [1,2,3,4,5,6,7,8,9].all(a, [1,2,3,4,5,6,7,8,9].all(b, input.deep.list.all(c, input.deep.list.all(d, a*b*c*d > 0))))`, true},
	} {
		f, err := newFilter(manifestWith(Policy, c.when))
		if err != nil {
			t.Errorf("%s: %v", c.when, err)
			continue
		}
		if got := f.passes(&eventView{e: uploading()}); got != c.want {
			t.Errorf("%s: %v", c.when, got)
		}
	}
}

// Where there is no project, no input and no settings, they are null or fail, and
// the expression can tell.
func TestAFilterTellsWhatIsNotThere(t *testing.T) {
	for when, want := range map[string]bool{
		`project == null`: true, `project != null && project.id == "x"`: false, `project.id == "x"`: true,
		`input == null`: true, `input != null && has(input.name)`: false, `actor.role == ""`: true, `usage.adds.bytes > 0`: false,
	} {
		f, err := newFilter(manifestWith(Policy, when))
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if got := f.passes(&eventView{e: &Event{Operation: "create_project"}}); got != want {
			t.Errorf("%s: %v", when, got)
		}
	}
	if f, err := newFilter(manifestWith(Policy, "")); err != nil || !f.passes(&eventView{e: &Event{}}) {
		t.Errorf("no expression: %v", err)
	}
}

// What can be no filter refuses the manifest, and says what is wrong and where.
func TestExpressionsThatCannotFilterAreRefused(t *testing.T) {
	nested := "[1]"
	for range 5 {
		nested = "[1,2,3,4,5,6,7,8,9,10].map(x, " + nested + ")"
	}
	nested += ".size() > 0"
	for _, c := range []struct{ kind, when, want string }{
		{Policy, `usage.adds.bytes >`, "Syntax error"},
		{Policy, `usge.adds.bytes > 0`, "undeclared reference to 'usge'"},
		{Policy, `1 + 1`, "it is a int, and must be true or false"},
		{Policy, `"upload_file"`, "it is a string, and must be true or false"},
		{Policy, `operation.explode()`, "undeclared reference to 'explode'"},
		{Policy, `status == "denied"`, "undeclared reference to 'status'"},
		{Sink, `usage.adds.bytes > 0`, "undeclared reference to 'usage'"},
		{Policy, nested, "it costs at least"},
		{Policy, `operation == "` + strings.Repeat("x", 5000) + `"`, "size"},
		{Policy, strings.Repeat("(", 300) + "true" + strings.Repeat(")", 300), "recursion"},
	} {
		_, err := newFilter(manifestWith(c.kind, c.when))
		if err == nil || !strings.HasPrefix(err.Error(), "when: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.60s: %v, want %s", c.when, err, c.want)
		}
	}
	for _, when := range []string{
		`operation == "x" && status == "denied"`, `actor.type == "key" || error_code != ""`, `project_id in ["a"] && resource_type == "file" && resource_id != ""`,
	} {
		if _, err := newFilter(manifestWith(Sink, when)); err != nil {
			t.Errorf("of a sink, %s: %v", when, err)
		}
	}
}

func BenchmarkFilter(b *testing.B) {
	for _, c := range []struct{ name, when string }{
		{"operation", `operation == "drop_project"`},
		{"adds", `usage.adds.bytes > 0 || usage.adds.files > 0`},
		{"settings", `has(project.settings.quota) && project.settings.quota.bytes > 0`},
	} {
		f, err := newFilter(manifestWith(Policy, c.when))
		if err != nil {
			b.Fatal(err)
		}
		e := uploading()
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f.passes(&eventView{e: e})
			}
		})
	}
}
