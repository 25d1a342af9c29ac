package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What cannot start is refused by `config validate` already, and by `serve` with the
// same exit code.
func TestSettingsThatCannotStartAreRefused(t *testing.T) {
	for setting, says := range map[string]string{
		"EIDER_HTTP_LISTEN=8080":                              "host:port or unix:PATH",
		"EIDER_HTTP_LISTEN=127.0.0.1":                         "host:port or unix:PATH",
		"EIDER_HTTP_LISTEN=":                                  "host:port or unix:PATH",
		"EIDER_HTTP_LISTEN=:99999":                            "from 0 to 65535",
		"EIDER_HTTP_LISTEN=:-1":                               "from 0 to 65535",
		"EIDER_HTTP_LISTEN=unix:":                             "unix socket",
		"EIDER_HTTP_LISTEN=unix:/" + strings.Repeat("a", 200): "unix socket",
		"EIDER_METADATA_MEMORY=31MiB":                         "at least 32MiB",
		"EIDER_HTTP_DRAIN_TIMEOUT=-1s":                        "",
		"EIDER_HTTP_READ_TIMEOUT=-1s":                         "",
		"EIDER_IDEMPOTENCY_KEEP=59s":                          "at least 1m",
		"EIDER_AUTH_ROOT_KEY=0123456789abcde":                 "at least 16 characters",
		"EIDER_AUTH_ROOT_KEY= 0123456789abcdef":               "without blanks",
		"EIDER_AUTH_ROOT_KEY=0123456789 abcdef":               "without blanks",
		"EIDER_AUTH_ROOT_KEY=0123456789abcdef ":               "without blanks",
	} {
		dir := filepath.Join(t.TempDir(), "d")
		for _, args := range [][]string{{"config", "validate"}, {"serve"}} {
			r := runEider(t, append(args, "--data-dir", dir, setting)...)
			if r.code != 2 || !strings.Contains(r.message, says) {
				t.Errorf("%s %v ended with %d: %s%s", setting, args, r.code, r.out, r.message)
			}
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s: a data folder was made", setting)
		}
	}
	// What only the machine knows shows when it is tried.
	if r := runEider(t, "serve", "--data-dir", t.TempDir(), "--listen", "192.0.2.1:1"); r.code != 2 || !strings.Contains(r.message, "192.0.2.1:1") {
		t.Errorf("an address that is not this machine's ended with %d: %s", r.code, r.message)
	}
}

func TestRootKeyFileIsCheckedAtTheStart(t *testing.T) {
	for text, says := range map[string]string{
		"short\n":               "at least 16 characters",
		" 0123456789abcdef\n":   "without blanks",
		"0123456789 abcdef\n":   "without blanks",
		"\n":                    "is empty",
		"\n0123456789abcdefg\n": "at least 16 characters",
	} {
		dir := t.TempDir()
		mustDo(t, os.WriteFile(filepath.Join(dir, "root.key"), []byte(text), 0o600))
		if r := runEider(t, "serve", "--data-dir", dir, "EIDER_AUTH_ROOT_KEY="); r.code != 2 || !strings.Contains(r.message, says) {
			t.Errorf("%q ended with %d: %s", text, r.code, r.message)
		}
	}
	dir := t.TempDir()
	mustDo(t, os.WriteFile(filepath.Join(dir, "root.key"), []byte(childKey+"\r\n"), 0o600))
	s := serve(t, dir, "EIDER_AUTH_ROOT_KEY=")
	s.Want(200, childKey, "GET /projects", "")
	s.stop(t)
	if strings.Contains(s.log(), "mode 0600") {
		t.Error("it warns of a file that is for its owner alone")
	}
	mustDo(t, os.Chmod(filepath.Join(dir, "root.key"), 0o640))
	s = serve(t, dir, "EIDER_AUTH_ROOT_KEY=")
	s.stop(t)
	if !strings.Contains(s.log(), "mode 0600") {
		t.Errorf("it does not warn: %s", s.log())
	}
}
