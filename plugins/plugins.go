// Package plugins holds the plugins that Eider brings: quota, ratelimit, naming and
// audit-webhook, each in a folder of its own, written with the SDK like anybody's.
//
// `make build` compiles them into built/ and then this package into the binary; a
// bare `go build` has the manifests and no modules. Either way they do nothing
// until the settings name them.
package plugins

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

//go:embed */plugin.yaml */README.md built
var files embed.FS

// ErrNotBuilt says that the binary was built without the modules.
var ErrNotBuilt = errors.New("this binary was built without its plugins: build it by `make build`")

// Names returns the names of the plugins, sorted.
func Names() []string {
	found, err := fs.Glob(files, "*/plugin.yaml")
	if err != nil {
		return nil // the pattern is a constant
	}
	for i := range found {
		found[i] = path.Dir(found[i])
	}
	slices.Sort(found)
	return found
}

// Read returns a file of a plugin, such as quota/plugin.yaml or quota/quota.wasm.
func Read(name string) ([]byte, error) {
	plugin := path.Dir(name)
	if !slices.Contains(Names(), plugin) {
		return nil, fmt.Errorf("there is no built-in plugin %q: there are %s", plugin, strings.Join(Names(), ", "))
	}
	if strings.HasSuffix(name, ".wasm") {
		content, err := files.ReadFile(path.Join("built", path.Base(name)))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", plugin, ErrNotBuilt)
		}
		return content, nil
	}
	return files.ReadFile(name)
}
