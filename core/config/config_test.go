package config_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/eiderdb/eider/core/config"
	"pgregory.net/rapid"
)

type top struct {
	DataDir string `koanf:"data_dir" doc:"The one folder"`
}

type front struct {
	Listen  string          `koanf:"listen" doc:"host:port"`
	Limit   config.Size     `koanf:"body_limit"`
	Idle    config.Duration `koanf:"idle_timeout" doc:"Longest pause"`
	Proxies []string        `koanf:"trusted_proxies" doc:"Networks"`
	Conns   int             `koanf:"max_connections"`
	Bytes   int64           `koanf:"bytes"`
	Ratio   float64         `koanf:"ratio"`
	Open    bool            `koanf:"open"`
	TLS     struct {
		Cert string `koanf:"cert" doc:"PEM file"`
		Key  string `koanf:"key" secret:"true"`
	} `koanf:"tls"`
	Ports  []int             `koanf:"ports"`
	Labels map[string]string `koanf:"labels"`
}

func (f *front) Validate() error {
	var wrong []error
	if f.Conns < 0 {
		wrong = append(wrong, errors.New("max_connections must not be negative"))
	}
	if f.Ratio > 1 {
		wrong = append(wrong, errors.New("ratio must be at most 1"))
	}
	return errors.Join(wrong...)
}

type plugin struct {
	Name   string          `koanf:"name"`
	Token  string          `koanf:"token" secret:"true"`
	Wait   config.Duration `koanf:"wait"`
	Limits struct {
		Memory config.Size `koanf:"memory"`
	} `koanf:"limits"`
	Settings map[string]any `koanf:"settings"`
}

func (p *plugin) Validate() error {
	if p.Name == "" {
		return errors.New("name must not be empty")
	}
	return nil
}

type plugins struct {
	Items []plugin `koanf:"items" doc:"In this order"`
}

type all struct {
	Top     top
	HTTP    front
	Plugins plugins
}

func defaults() *all {
	a := &all{Top: top{"data"}}
	a.HTTP = front{
		Listen: "127.0.0.1:8080", Limit: 1 << 20, Idle: config.Duration(2 * time.Minute), Conns: 10, Bytes: 5, Ratio: 0.5,
		Proxies: []string{"10.0.0.0/8", "::1"}, Ports: []int{1, 2}, Labels: map[string]string{"site": "a b"},
	}
	return a
}

func declare(a *all) *config.Set {
	s := config.New()
	s.Section("", &a.Top)
	s.Section("http", &a.HTTP)
	s.Section("plugins", &a.Plugins)
	return s
}

func write(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "eider.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// load reads a file's text and variables over the defaults.
func load(t testing.TB, file string, environ ...string) (*all, *config.Set, error) {
	t.Helper()
	a := defaults()
	s := declare(a)
	return a, s, s.Load(config.Sources{File: write(t, file), Environ: environ})
}

func source(s *config.Set, name string) string {
	for _, one := range s.Settings() {
		if one.Name == name {
			return filepath.Base(one.Source)
		}
	}
	return ""
}

func TestTheLaterSourceWins(t *testing.T) {
	file := "# a comment\n\nhttp:\n  listen: file:1\n"
	environ := []string{"EIDER_HTTP_LISTEN=env:1"}
	flags := map[string]string{"http.listen": "flag:1"}
	for _, c := range []struct {
		name, file   string
		environ      []string
		flags        map[string]string
		want, source string
	}{
		{name: "nothing", want: "127.0.0.1:8080", source: "default"},
		{name: "file", file: file, want: "file:1", source: "eider.yaml:4"},
		{name: "variable", environ: environ, want: "env:1", source: "env EIDER_HTTP_LISTEN"},
		{name: "file and variable", file: file, environ: environ, want: "env:1", source: "env EIDER_HTTP_LISTEN"},
		{name: "all", file: file, environ: environ, flags: flags, want: "flag:1", source: "flag"},
		{name: "an empty variable is a value", file: file, environ: []string{"EIDER_HTTP_LISTEN="}, source: "env EIDER_HTTP_LISTEN"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := defaults()
			s := declare(a)
			if err := s.Load(config.Sources{File: write(t, c.file), Environ: c.environ, Flags: c.flags}); err != nil {
				t.Fatal(err)
			}
			if a.HTTP.Listen != c.want || source(s, "http.listen") != c.source {
				t.Errorf("http.listen is %q from %q; want %q from %q", a.HTTP.Listen, source(s, "http.listen"), c.want, c.source)
			}
			if a.HTTP.Conns != 10 || source(s, "http.max_connections") != "default" {
				t.Error("a setting that nobody named has changed")
			}
		})
	}
}

func TestVariablesAreFoundByName(t *testing.T) {
	a := defaults()
	s := declare(a)
	err := s.Load(config.Sources{Environ: []string{
		"EIDER_DATA_DIR=/srv/a=b", "EIDER_HTTP_TLS_CERT=c.pem", "EIDER_HTTP_TRUSTED_PROXIES= a , b", "EIDER_HTTP_PORTS=[80, 443]",
		"EIDER_HTTP_BODY_LIMIT=2MiB", "EIDER_HTTP_IDLE_TIMEOUT=1d", "EIDER_HTTP_MAX_CONNECTIONS=7", "EIDER_HTTP_BYTES=9",
		"EIDER_HTTP_RATIO=0.25", "EIDER_HTTP_OPEN=true", `EIDER_HTTP_LABELS={"site": "b"}`,
		`EIDER_PLUGINS_ITEMS=[{"name": "quota", "limits": {"memory": "1MiB"}}]`,
		"EIDER_CONFIG=x", "EIDER_URL=x", "EIDER_KEY=x", "PATH=x", "eider_nothing=x", "EIDERDOWN=x", "odd",
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := defaults()
	want.Top.DataDir = "/srv/a=b"
	want.HTTP.TLS.Cert, want.HTTP.Proxies, want.HTTP.Ports = "c.pem", []string{"a", "b"}, []int{80, 443}
	want.HTTP.Limit, want.HTTP.Idle, want.HTTP.Conns, want.HTTP.Bytes = 2<<20, config.Duration(24*time.Hour), 7, 9
	want.HTTP.Ratio, want.HTTP.Open, want.HTTP.Labels = 0.25, true, map[string]string{"site": "b"}
	want.Plugins.Items = []plugin{{Name: "quota"}}
	want.Plugins.Items[0].Limits.Memory = 1 << 20
	if !reflect.DeepEqual(a, want) {
		t.Errorf("read\n%+v\nwant\n%+v", a, want)
	}
	for name, variable := range map[string]string{
		"data_dir": "EIDER_DATA_DIR", "http.listen": "EIDER_HTTP_LISTEN", "http.tls.cert": "EIDER_HTTP_TLS_CERT",
	} {
		if got := config.Variable(name); got != variable {
			t.Errorf("Variable(%s) = %s; want %s", name, got, variable)
		}
	}
}

func TestListsInVariables(t *testing.T) {
	for text, want := range map[string][]string{
		"a": {"a"}, "a,b": {"a", "b"}, "": {}, " ": {}, "[]": {}, `["a,b", c]`: {"a,b", "c"}, " [a]": {"a"},
	} {
		a, _, err := load(t, "", "EIDER_HTTP_TRUSTED_PROXIES="+text)
		if err != nil || !reflect.DeepEqual(a.HTTP.Proxies, want) {
			t.Errorf("%q is read as %q, %v; want %q", text, a.HTTP.Proxies, err, want)
		}
	}
}

func TestFilesThatSayLittle(t *testing.T) {
	for _, text := range []string{
		"", "\n", "# nothing\n", "---\n", "{}", "\ufeff", "http:\n", "http:\n  tls:\n", "http: {}", "plugins:\n  items:\n", "plugins: {items: []}",
	} {
		a, _, err := load(t, text)
		if err != nil {
			t.Errorf("%q is refused: %v", text, err)
		}
		if len(a.Plugins.Items) != 0 || a.HTTP.Listen != "127.0.0.1:8080" {
			t.Errorf("%q changed a setting", text)
		}
	}
}

func TestAnchorsAndDottedNamesInAFile(t *testing.T) {
	a, _, err := load(t, "data_dir: &d /srv\nhttp.listen: a:1\nhttp:\n  tls.cert: *d\n  bytes: 7\n")
	if err != nil || a.HTTP.TLS.Cert != "/srv" || a.HTTP.Listen != "a:1" || a.HTTP.Bytes != 7 {
		t.Errorf("read %+v, %v", a.HTTP, err)
	}
}

// Every refusal names the setting, its place, and what was expected.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name, file string
		environ    []string
		want       []string // the lines, without the folder of the file
	}{
		{"unknown name", "http:\n  lisen: a", nil, []string{"unknown setting http.lisen (file eider.yaml:2): did you mean http.listen?"}},
		{"unknown section", "htp:\n  tls:\n    cert: a", nil, []string{"unknown setting htp.tls.cert (file eider.yaml:3): did you mean http.tls.cert?"}},
		{"section forgotten", "listen: a", nil, []string{"unknown setting listen (file eider.yaml:1): did you mean http.listen?"}},
		{"like nothing", "wholly_different: a", nil, []string{"unknown setting wholly_different (file eider.yaml:1)"}},
		{"empty unknown section", "nothing_like_it: {}", nil, []string{"unknown setting nothing_like_it (file eider.yaml:1)"}},
		{"a name that is no text", "http:\n  1: a", nil, []string{"unknown setting http.1 (file eider.yaml:2)"}},
		{"unknown variable", "", []string{"EIDER_HTTP_LISEN=a"}, []string{"unknown setting EIDER_HTTP_LISEN (env): did you mean EIDER_HTTP_LISTEN?"}},
		{"a value for a section", "http: 5", nil, []string{"http (file eider.yaml:1): is a section, whose settings stand below it"}},
		{"a section for a value", "data_dir:\n  a: 1", nil, []string{"data_dir (file eider.yaml:1): must be a text"}},
		{"twice", "data_dir: a\nhttp: {open: true}\ndata_dir: b", nil, []string{`eider.yaml: line 3: mapping key "data_dir" already defined at line 1`}},
		{"twice below", "http:\n  open: true\n  listen: a\n  open: true\n  listen: b", nil, []string{`eider.yaml: line 4: mapping key "open" already defined at line 2; line 5: mapping key "listen" already defined at line 3`}},
		{"twice in two forms", "http.listen: a\nhttp:\n  listen: b", nil, []string{"http.listen (file eider.yaml:3): stands twice"}},
		{"a tab", "http:\n\tlisten: a", nil, []string{"eider.yaml: line 2: found character that cannot start any token"}},
		{"broken", "http:\n  listen: a: b\n", nil, []string{"eider.yaml: line 2: mapping values are not allowed in this context"}},
		{"a list", "- a", nil, []string{"eider.yaml: line 1: the file must hold names and values"}},
		{"a second document", "data_dir: a\n---\ndata_dir: b", nil, []string{"eider.yaml: the file must hold one document: nothing may follow a second ---"}},
		{"no value", "data_dir:", nil, []string{"data_dir (file eider.yaml:1): must be a text"}},
		{"no size", "http:\n  body_limit:", nil, []string{"http.body_limit (file eider.yaml:2): must be a size such as 64MiB"}},
		{"a number for a text", "data_dir: 5", nil, []string{"data_dir (file eider.yaml:1): must be a text"}},
		{"a text for a number", "http: {max_connections: '5'}", nil, []string{"http.max_connections (file eider.yaml:1): must be a whole number"}},
		{"a fraction", "http: {max_connections: 1.5}", nil, []string{"http.max_connections (file eider.yaml:1): must be a whole number"}},
		{"a fraction of a byte", "http: {body_limit: 1.5}", nil, []string{"http.body_limit (file eider.yaml:1): must be a size such as 64MiB"}},
		{"a negative size", "http: {body_limit: -1}", nil, []string{"http.body_limit (file eider.yaml:1): must be a size such as 64MiB"}},
		{"too large", "http: {bytes: 18446744073709551615}", nil, []string{"http.bytes (file eider.yaml:1): must be a whole number"}},
		{"too large a size", "http: {body_limit: 18446744073709551615}", nil, []string{"http.body_limit (file eider.yaml:1): must be a size such as 64MiB"}},
		{"a pause without a unit", "http: {idle_timeout: 30}", nil, []string{"http.idle_timeout (file eider.yaml:1): must be a duration such as 30s or 7d"}},
		{"no number", "http: {ratio: .nan}", nil, []string{"http.ratio (file eider.yaml:1): must be a number"}},
		{"a word for a switch", "http: {open: sure}", nil, []string{"http.open (file eider.yaml:1): must be true or false"}},
		{"a number for a list", "http: {trusted_proxies: 5}", nil, []string{"http.trusted_proxies (file eider.yaml:1): must be a list"}},
		{"nothing in a list", "http:\n  trusted_proxies:\n  -\n", nil, []string{"http.trusted_proxies (file eider.yaml:2): must be a list"}},
		{"a list for a map", "http: {labels: [a]}", nil, []string{"http.labels (file eider.yaml:1): must be names and values"}},
		{"variables", "", []string{
			"EIDER_HTTP_MAX_CONNECTIONS=", "EIDER_HTTP_OPEN=", "EIDER_HTTP_RATIO=", "EIDER_HTTP_BODY_LIMIT=",
			"EIDER_HTTP_PORTS=[1", "EIDER_HTTP_LABELS=a", "EIDER_HTTP_BYTES=1.5",
		}, []string{
			"http.body_limit (env EIDER_HTTP_BODY_LIMIT): must be a size such as 64MiB",
			"http.bytes (env EIDER_HTTP_BYTES): must be a whole number",
			"http.labels (env EIDER_HTTP_LABELS): must be names and values",
			"http.max_connections (env EIDER_HTTP_MAX_CONNECTIONS): must be a whole number",
			"http.open (env EIDER_HTTP_OPEN): must be true or false",
			"http.ports (env EIDER_HTTP_PORTS): must be a list",
			"http.ratio (env EIDER_HTTP_RATIO): must be a number",
		}},
		{"no finite number", "", []string{"EIDER_HTTP_RATIO=Inf"}, []string{"http.ratio (env EIDER_HTTP_RATIO): must be a number"}},
		{"what the section refuses", "http: {max_connections: -1, ratio: 2}", nil, []string{"http.max_connections must not be negative", "http.ratio must be at most 1"}},
		{"items", "plugins:\n  items:\n  - name: a\n    tokn: b\n    wait: soon\n  - 5\n  - name: c\n    limits:\n      memory: -1\n", nil, []string{
			"unknown setting plugins.items[0].tokn (file eider.yaml:4): did you mean plugins.items[0].token?",
			"plugins.items[0].wait (file eider.yaml:5): must be a duration such as 30s or 7d",
			"plugins.items[1] (file eider.yaml:6): must be names and values",
			"plugins.items[2].limits.memory (file eider.yaml:9): must be a size such as 64MiB",
		}},
		{"an item that is refused", "plugins: {items: [{name: a}, {wait: 1s}]}", nil, []string{"plugins.items[1].name must not be empty"}},
		{"no list of items", "plugins: {items: {name: a}}", nil, []string{"plugins.items (file eider.yaml:1): must be a list"}},
		{"items in a variable", "", []string{`EIDER_PLUGINS_ITEMS=[{"nam": "a"}]`}, []string{"unknown setting plugins.items[0].nam (env EIDER_PLUGINS_ITEMS): did you mean plugins.items[0].name?"}},
		{"broken items in a variable", "", []string{`EIDER_PLUGINS_ITEMS=[{`}, []string{"plugins.items (env EIDER_PLUGINS_ITEMS): must be a list, written as YAML or JSON"}},
		{"all at once", "http:\n  lisen: a\n  open: 5\n", []string{"EIDER_NOTHING_LIKE_IT=1"}, []string{
			"unknown setting http.lisen (file eider.yaml:2): did you mean http.listen?",
			"unknown setting EIDER_NOTHING_LIKE_IT (env)",
			"http.open (file eider.yaml:3): must be true or false",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := defaults()
			path := write(t, c.file)
			err := declare(a).Load(config.Sources{File: path, Environ: c.environ})
			want := strings.Join(c.want, "\n")
			if got := strings.ReplaceAll(fmt.Sprint(err), filepath.Dir(path)+"/", ""); got != want {
				t.Errorf("the refusal is\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestAFileThatIsNamedMustExist(t *testing.T) {
	err := declare(defaults()).Load(config.Sources{File: filepath.Join(t.TempDir(), "none"), Flags: map[string]string{"data-dir": "x"}})
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the error is %v", err)
	}
	if want := "unknown setting data-dir (flag): did you mean data_dir?"; !strings.Contains(fmt.Sprint(err), want) {
		t.Errorf("%v does not say %q", err, want)
	}
}

// A broken declaration is found when it is made, not by an operator.
func TestMistakesInADeclaration(t *testing.T) {
	for name, declare := range map[string]func(*config.Set){
		"a section twice": func(s *config.Set) { s.Section("a", &top{}); s.Section("a", &top{}) },
		"a setting twice": func(s *config.Set) {
			s.Section("", &struct {
				A top `koanf:"a"`
			}{})
			s.Section("a", &top{})
		},
		"a shared variable": func(s *config.Set) {
			s.Section("data", &struct {
				A int `koanf:"dir"`
			}{})
			s.Section("", &top{})
		},
		"inside each other": func(s *config.Set) { s.Section("data_dir", &top{}); s.Section("", &top{}) },
		"a reserved name": func(s *config.Set) {
			s.Section("", &struct {
				A string `koanf:"config"`
			}{})
		},
		"no tag": func(s *config.Set) { s.Section("a", &struct{ A int }{}) },
		"nanoseconds": func(s *config.Set) {
			s.Section("a", &struct {
				A time.Duration `koanf:"a"`
			}{})
		},
		"a pointer": func(s *config.Set) {
			s.Section("a", &struct {
				A *int `koanf:"a"`
			}{})
		},
		"an item without tag": func(s *config.Set) {
			s.Section("a", &struct {
				A []struct{ B int } `koanf:"a"`
			}{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("the declaration is taken")
				}
			}()
			declare(config.New())
		})
	}
}

func TestPrintShowsNameValueAndSource(t *testing.T) {
	_, s, err := load(t, "", "EIDER_DATA_DIR=/srv")
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := s.Print(&b); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"data_dir /srv env EIDER_DATA_DIR", "http.body_limit 1MiB default", "http.idle_timeout 2m0s default",
		"http.trusted_proxies 10.0.0.0/8,::1 default", "http.ports [1, 2] default", "http.labels {site: a b} default", "plugins.items [] default",
	} {
		if !strings.Contains(strings.Join(strings.Fields(b.String()), " "), line) {
			t.Errorf("the table lacks %q:\n%s", line, b.String())
		}
	}
}

// The reference is a config file: read back, it changes nothing.
func TestTheReferenceReadsBack(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		text := rapid.SampledFrom([]string{"", "plain", "off", "5", "a: b", "# no", "two\nlines", " x ", "\"", "[", "\t", "é", "*a", "~", "2024-01-01"})
		given := defaults()
		given.Top.DataDir = text.Draw(r, "data_dir")
		given.HTTP.TLS.Cert = text.Draw(r, "cert")
		given.HTTP.Proxies = rapid.SliceOfN(text, 0, 3).Draw(r, "proxies")
		given.HTTP.Labels = rapid.MapOfN(text, text, 0, 3).Draw(r, "labels")
		given.HTTP.Limit = config.Size(rapid.Int64Min(0).Draw(r, "limit"))
		given.HTTP.Idle = config.Duration(rapid.Int64().Draw(r, "idle"))
		given.HTTP.Bytes = rapid.Int64().Draw(r, "bytes")
		given.HTTP.Ratio = rapid.Float64Max(1).Draw(r, "ratio")
		given.Plugins.Items = rapid.SliceOfN(rapid.Custom(func(r *rapid.T) plugin {
			p := plugin{Name: "n" + text.Draw(r, "name"), Wait: config.Duration(rapid.Int64().Draw(r, "wait")), Settings: map[string]any{"a": []any{1, "b"}}}
			p.Limits.Memory = config.Size(rapid.Int64Min(0).Draw(r, "memory"))
			return p
		}), 0, 2).Draw(r, "items")
		var reference bytes.Buffer
		if err := declare(given).Reference(&reference); err != nil {
			r.Fatal(err)
		}
		back := &all{}
		if err := declare(back).Load(config.Sources{File: write(t, reference.String())}); err != nil {
			r.Fatalf("%v in\n%s", err, reference.String())
		}
		if !reflect.DeepEqual(given, back) {
			r.Fatalf("given\n%+v\nread back\n%+v\nfrom\n%s", given, back, reference.String())
		}
	})
}

func TestTheReferenceShowsDescriptions(t *testing.T) {
	var b bytes.Buffer
	s := config.New()
	a := defaults()
	s.Section("http", &a.HTTP.TLS)
	s.Section("", &a.Top)
	if err := s.Reference(&b); err != nil {
		t.Fatal(err)
	}
	want := "# The one folder\ndata_dir: data\nhttp:\n  # PEM file\n  cert: \"\"\n  key: \"\"\n"
	if b.String() != want {
		t.Errorf("the reference is\n%s\nwant\n%s", b.String(), want)
	}
	if err := s.Reference(full{}); !errors.Is(err, errFull) {
		t.Errorf("a writer's error is lost: %v", err)
	}
}

var errFull = errors.New("full")

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }

// pool is what a list holds whose items have a default of their own.
type pool struct {
	Name  string `koanf:"name"`
	Share int    `koanf:"share"`
}

func (p *pool) Default() { p.Share = 100 }

func TestItemsOfAListHaveDefaults(t *testing.T) {
	var section struct {
		Pools []pool `koanf:"pools"`
	}
	set := config.New()
	set.Section("", &section)
	err := set.Load(config.Sources{Environ: []string{"EIDER_POOLS=[{name: a}, {name: b, share: 0}, {name: c, share: 7}]"}})
	if got := fmt.Sprint(section.Pools); err != nil || got != "[{a 100} {b 0} {c 7}]" {
		t.Errorf("%v, %v", got, err)
	}
}
