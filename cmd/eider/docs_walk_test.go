package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/app/apptest"
)

// docStep is a shell block of a walk and the output that is shown below it.
type docStep struct{ run, shows string }

var shellBlocks = regexp.MustCompile("(?s)```sh\n(.*?)```\n(?:```\n(.*?)```\n)?")

func stepsOf(text string) []docStep {
	var all []docStep
	for _, m := range shellBlocks.FindAllStringSubmatch(text, -1) {
		all = append(all, docStep{m[1], m[2]})
	}
	return all
}

// varying are the parts of an output that differ from run to run.
var varying = []struct {
	is *regexp.Regexp
	as string
}{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "UUID"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "TIME"},
	{regexp.MustCompile(`"eider_[0-9a-f]{16}_[0-9a-f.]+"`), "SECRET"},
	{regexp.MustCompile(`eider_root_[0-9a-f.]+`), "ROOT"},
	{regexp.MustCompile(`project_sales\.[0-9a-f]{8}/`), "FOLDER/"},
	{regexp.MustCompile(`"duration_ms":[0-9.]+`), `"duration_ms":N`},
	{regexp.MustCompile(`"id":\d+`), `"id":N`}, // other projects may have rows before these
	{regexp.MustCompile(`"next_cursor":"\w+"`), `"next_cursor":"CURSOR"`},
	{regexp.MustCompile(`backup \d{8}T[\d.]+-[0-9a-f]{8}: \d+ files, \d+ bytes, up to row \d+`), "BACKUP"},
	{regexp.MustCompile(`rows \d+ to \d+, \d+ checked`), "ROWS checked"},
	{regexp.MustCompile(`\s+`), ""},
}

func withoutVarying(output string) string {
	for _, v := range varying {
		output = v.is.ReplaceAllString(output, v.as)
	}
	return output
}

// looksLike reports whether an output is the one shown, where "..." stands for
// anything.
func looksLike(shown, output string) bool {
	parts := strings.Split(withoutVarying(shown), "...")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile("^" + strings.Join(parts, ".*") + "$").MatchString(withoutVarying(output))
}

func TestTheWalkOfTheReadmeWorks(t *testing.T) {
	dir := t.TempDir()
	s := apptest.Start(t, filepath.Join(dir, "data"), app.Options{Modules: modules(), Version: "test"}, nil)
	for range 2 { // a second time it finds everything there
		if said, err := exec.Command("../../scripts/sample", filepath.Join(dir, "data")).CombinedOutput(); err != nil {
			t.Fatalf("the sample is not made: %v\n%s", err, said)
		}
	}
	walk(t, dir, strings.Replace(docText(t, "README.md"), "http://127.0.0.1:8080", s.URL, 1), 6)
}

// walk runs the blocks of a text and compares what they print with what it shows.
func walk(t *testing.T, dir, text string, atLeast int) {
	t.Helper()
	steps := stepsOf(text)
	if len(steps) < atLeast {
		t.Fatalf("there are %d shell blocks", len(steps))
	}
	const mark = "--- the next block ---"
	script := "set -u\n"
	for _, one := range steps {
		script += one.run + "echo '" + mark + "'\n"
	}
	outputs := strings.Split(runSteps(t, dir, script), mark+"\n")
	for i, one := range steps {
		if !looksLike(one.shows, outputs[i]) {
			t.Errorf("the block\n%s\nprinted\n%s\nIt should print\n%s", one.run, outputs[i], one.shows)
		}
	}
}

// runSteps runs a script in dir, where bin/eider is this test's binary.
func runSteps(t *testing.T, dir, script string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	command := fmt.Sprintf("#!/bin/sh\nEIDER_TEST_AS_COMMAND=1 exec %q \"$@\"\n", self)
	if err := os.WriteFile(filepath.Join(dir, "bin/eider"), []byte(command), 0o700); err != nil {
		t.Fatal(err)
	}
	bash := exec.Command("bash", "-c", script)
	bash.Dir = dir
	bash.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "EIDER_") })
	errors := &strings.Builder{}
	bash.Stderr = errors
	out, err := bash.Output()
	if err != nil {
		t.Fatalf("bash: %v\n%s\n%s", err, out, errors)
	}
	return string(out)
}

// consoles are blocks of commands of ours, each behind a $, and what they print.
// A repair needs damage, and is tested where there is some. The block of several
// commands is the disaster's, which TestDisasterWalkThrough makes.
var consoles = regexp.MustCompile("(?s)```\n(\\$ (?:EIDER_[^\n]* )?eider [^\n]*)\n(.*?)```")

func TestCommandsInTheGuideToOperatingPrintWhatItShows(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	apptest.Start(t, data, app.Options{Modules: modules(), Version: "test"}, nil)
	text := strings.ReplaceAll(docText(t, "docs/operating.md"), "/var/lib/eider", data)
	script, shown := "PATH=$PWD/bin:$PATH\nexec 2>&1\n", []string{}
	const mark = "--- the next command ---"
	for _, m := range consoles.FindAllStringSubmatch(text, -1) {
		if strings.Contains(m[1], " repair ") || strings.Contains(m[2], "\n$ ") {
			continue
		}
		script += strings.TrimPrefix(m[1], "$ ") + "\necho '" + mark + "'\n"
		shown = append(shown, m[2])
	}
	if len(shown) < 4 {
		t.Fatalf("the guide shows %d commands", len(shown))
	}
	outputs := strings.Split(runSteps(t, dir, script), mark+"\n")
	for i := range shown {
		if !looksLike(shown[i], outputs[i]) {
			t.Errorf("a command printed\n%s\nThe guide shows\n%s", outputs[i], shown[i])
		}
	}
}
