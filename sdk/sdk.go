// Package sdk brings what plugins are written with: the SDKs for Go, Rust and
// AssemblyScript, templates, and the script that finds the compilers.
//
// All of it is in the binary, so that a plugin is begun, and in Go and Rust built,
// without a network. A plugin gets a copy of its SDK and can be kept anywhere. The
// package knows nothing of the host.
package sdk

import (
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

//go:embed toolchains.sh templates
//go:embed go/*.go
//go:embed rust/Cargo.toml rust/src
//go:embed assemblyscript/*.ts assemblyscript/packages
var files embed.FS

// Languages are those that there is an SDK for.
func Languages() []string { return []string{"go", "rust", "assemblyscript"} }

// Kinds are the kinds of plugin.
func Kinds() []string { return []string{"policy", "sink"} }

var pluginName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,63}$`)

// Init writes a new plugin into dir, which must be empty or not there.
func Init(dir, name, language, kind string) error {
	switch {
	case !pluginName.MatchString(name):
		return fmt.Errorf("%q is no name for a plugin: it must be of a-z, 0-9 and -, and begin with a letter", name)
	case !slices.Contains(Languages(), language):
		return fmt.Errorf("%q is none of %s", language, strings.Join(Languages(), ", "))
	case !slices.Contains(Kinds(), kind):
		return fmt.Errorf("%q is none of %s", kind, strings.Join(Kinds(), ", "))
	}
	if there, err := os.ReadDir(dir); err == nil && len(there) > 0 {
		return fmt.Errorf("%s is not empty", dir)
	}
	for to, from := range contents(language, kind) {
		content, err := files.ReadFile(from)
		if err != nil {
			return err
		}
		if strings.HasPrefix(from, "templates/") {
			content = []byte(strings.ReplaceAll(string(content), "NAME", name))
		}
		if err := write(filepath.Join(dir, to), content); err != nil {
			return err
		}
	}
	if language == "go" {
		return write(filepath.Join(dir, "sdk/go.mod"), []byte("module github.com/eiderdb/eider/sdk/go\n\ngo 1.24\n"))
	}
	return nil
}

// contents maps the files of a new plugin to those that they are made of.
func contents(language, kind string) map[string]string {
	in := "templates/" + language + "/"
	all := map[string]string{"plugin.yaml": "templates/" + kind + ".yaml"}
	all["cases.yaml"] = map[string]string{"policy": "templates/cases.yaml", "sink": "templates/sink-cases.yaml"}[kind]
	switch language {
	case "go":
		all["go.mod"], all["main.go"] = in+"go.mod.txt", in+kind+".txt"
	case "rust":
		all["Cargo.toml"], all["src/lib.rs"] = in+"Cargo.toml.txt", in+kind+".txt"
	case "assemblyscript":
		all["asconfig.json"], all["plugin.ts"] = in+kind+".asconfig.json", in+kind+".txt"
	}
	for _, name := range below(language) {
		rest := strings.TrimPrefix(name, language+"/")
		if !strings.HasSuffix(name, "_test.go") && !strings.HasPrefix(rest, "packages/") {
			all["sdk/"+rest] = name
		}
	}
	return all
}

// below lists the files in an embedded folder.
func below(root string) []string {
	var all []string
	// The folder is embedded, so walking it cannot fail.
	_ = fs.WalkDir(files, root, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			all = append(all, path.Clean(name))
		}
		return err
	})
	return all
}

func write(name string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, content, 0o644)
}
