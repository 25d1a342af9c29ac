package config_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/eiderdb/eider/core/config"
)

const secret = "Tr0ub4dor"

// outputs is everything that the set shows.
func outputs(t testing.TB, s *config.Set) string {
	t.Helper()
	var b bytes.Buffer
	if err := s.Print(&b); err != nil {
		t.Fatal(err)
	}
	if err := s.Reference(&b); err != nil {
		t.Fatal(err)
	}
	return b.String() + fmt.Sprint(s.Settings())
}

func TestSecretsAreMaskedInEveryOutput(t *testing.T) {
	file := "http: {tls: {key: " + secret + "}}\nplugins: {items: [{name: a, token: " + secret + "}, {name: b}]}\n"
	a, s, err := load(t, file)
	if err != nil {
		t.Fatal(err)
	}
	if a.HTTP.TLS.Key != secret || a.Plugins.Items[0].Token != secret {
		t.Fatalf("the secrets were not read: %+v", a)
	}
	shown := outputs(t, s)
	if strings.Contains(shown, secret) {
		t.Errorf("a secret is shown:\n%s", shown)
	}
	if n := strings.Count(shown, "********"); n != 6 {
		t.Errorf("two secrets in three outputs are masked %d times:\n%s", n, shown)
	}
	if _, s, err := load(t, "plugins: {items: [{name: a}]}"); err != nil || strings.Contains(outputs(t, s), "****") {
		t.Errorf("an empty secret is masked, as if it were set (%v)", err)
	}
}

func TestSecretsFromFiles(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"plain": secret, "newline": secret + "\n", "windows": secret + "\r\n", "spaces": " a b ", "empty": "", "line": "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"plain": secret, "newline": secret, "windows": secret, "spaces": " a b "} {
		text := "file:" + filepath.Join(dir, name)
		a, _, err := load(t, "plugins: {items: [{name: a, token: '"+text+"'}]}", "EIDER_HTTP_TLS_KEY="+text)
		if err != nil || a.HTTP.TLS.Key != want || a.Plugins.Items[0].Token != want {
			t.Errorf("%s is read as %q and %q, %v; want %q", name, a.HTTP.TLS.Key, a.Plugins.Items[0].Token, err, want)
		}
	}
	for _, name := range []string{"empty", "line", "none", ""} {
		_, _, err := load(t, "", "EIDER_HTTP_TLS_KEY=file:"+filepath.Join(dir, name))
		if err == nil || !strings.HasPrefix(err.Error(), "http.tls.key (env EIDER_HTTP_TLS_KEY): ") {
			t.Errorf("the file %q is no secret, and yet: %v", name, err)
		}
	}
	if a, _, err := load(t, "http: {tls: {cert: 'file:x'}}"); err != nil || a.HTTP.TLS.Cert != "file:x" {
		t.Errorf("what is no secret was read from a file: %q, %v", a.HTTP.TLS.Cert, err)
	}
}

func TestTheMaskIsNoSecret(t *testing.T) {
	_, s, err := load(t, "http: {tls: {key: "+secret+"}}")
	if err != nil {
		t.Fatal(err)
	}
	var reference bytes.Buffer
	if err := s.Reference(&reference); err != nil {
		t.Fatal(err)
	}
	_, _, err = load(t, reference.String())
	if err == nil || !strings.Contains(err.Error(), "http.tls.key (file ") || !strings.Contains(err.Error(), "is the mask") {
		t.Errorf("a reference with a mask is taken as it is: %v", err)
	}
}

func TestNoErrorShowsASecret(t *testing.T) {
	for name, file := range map[string]string{
		"a list":            "http: {tls: {key: [" + secret + "]}}",
		"a section":         "http: {tls: {key: {a: " + secret + "}}}",
		"an alias":          "http: {tls: {key: *" + secret + "}}",
		"a directive":       "http: {tls: {key: @" + secret + "}}",
		"an open quote":     "http:\n  tls:\n    key: \"" + secret + "\n",
		"the file of a key": secret,
		"in an item":        "plugins: {items: [{token: [" + secret + "]}]}",
		"for an item":       "plugins: {items: [" + secret + "]}",
		"for the items":     "plugins: {items: " + secret + "}",
		"for a section":     "http: " + secret,
	} {
		if _, _, err := load(t, file); err == nil || strings.Contains(err.Error(), secret[:4]) {
			t.Errorf("%s: the refusal is %v", name, err)
		}
	}
	if _, _, err := load(t, "", "EIDER_PLUGINS_ITEMS="+secret, "EIDER_HTTP_TLS="+secret); err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("the refusal of variables is %v", err)
	}
}

// FuzzFile wants an answer for every file: settings that are shown without
// their secrets, or a refusal, never a panic.
func FuzzFile(f *testing.F) {
	for _, text := range []string{
		"", "data_dir: a", "http: {tls: {key: a}}", "http.listen: a\nhttp: {listen: b}", "plugins: {items: [{name: a, token: b}, 1, null]}",
		"a: &a [*a]", "a: &a {b: 1}\nhttp:\n  <<: *a", "? [a]\n: b", "---\n---\n", "- a", "1: 2", "http: {labels: {a.b: c}}", "plugins.items: [{a.b: {c: d}}]", "'': a", ".: a",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		_, s, err := load(t, text)
		if err == nil {
			outputs(t, s)
		}
	})
}
