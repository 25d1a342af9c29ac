// Package wasm hosts plugins: WebAssembly modules that operators write, as policies
// that are asked before an operation and as sinks that are given the log.
//
// docs/plugin-abi.md says what passes between host and guest. The life of a plugin:
//
//  1. Its manifest and module are read, pin and signature checked.
//  2. The module is compiled as it is, so that it is known to be valid; then its
//     fuel is written into it (core/wasm/fuel) and the result compiled. The second
//     is kept on disk, so that the next start takes some milliseconds, and not for ever.
//  3. One guest is made and configured, and asked about an event that never was.
//     What fails until here refuses the plugin, and leaves the one before it.
//  4. Guests wait in a queue; each call takes the first and puts it back last, unless
//     its memory is nearly used up.
//     One that traps, runs dry, leaves or answers what is no answer is thrown away,
//     and another is made in the background.
//
// Always true: no guest is used by two goroutines; a guest that failed is never
// used again; a guest sees no file, no environment and no network but what its
// capabilities open; whatever a guest does, its call ends within its fuel and the
// time of its host calls. The package knows neither operations nor HTTP routes.
package wasm

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/eiderdb/eider/core/config"
	"github.com/eiderdb/eider/core/policy"
)

// Settings are the section plugins of the settings.
type Settings struct {
	RequireSHA256    bool     `koanf:"require_sha256" doc:"Refuse settings in which a plugin, but for those of the binary, has no sha256; for production"`
	RequireSignature bool     `koanf:"require_signature" doc:"Refuse plugins, but for those of the binary, that are not signed by one of the trusted keys"`
	TrustedKeys      []string `koanf:"trusted_keys" doc:"ed25519 public keys, in base64"`
	Items            []Item   `koanf:"items" doc:"The plugins, see docs/plugin-abi.md"`
}

// Item is a plugin as the operator wants it.
type Item struct {
	Name           string         `koanf:"name" doc:"Of the item: what it keeps in kv and its cursor belong to it"`
	Path           string         `koanf:"path" doc:"Folder, plugin.yaml or .wasm, relative to the data folder; builtin:NAME for one of ours"`
	SHA256         string         `koanf:"sha256" doc:"Of the .wasm, in hex; empty: any"`
	ManifestSHA256 string         `koanf:"manifest_sha256" doc:"Of plugin.yaml, in hex; empty: any. sha256 does not cover it, a signature does"`
	Mode           string         `koanf:"mode" doc:"enforce (default), warn, dry_run, off"`
	Fail           string         `koanf:"fail" doc:"closed: what cannot be decided is denied; open. Policies are closed by default"`
	Priority       int            `koanf:"priority" doc:"Higher is asked first"`
	Projects       []string       `koanf:"projects" doc:"Globs of project ids, also of those that are to be made; none: all, and the server"`
	Percent        int            `koanf:"percent" doc:"Of projects, 1 to 100; 100 if it is left out"`
	Capabilities   []string       `koanf:"capabilities" doc:"What is granted of what the manifest asks for"`
	HTTPHosts      []string       `koanf:"http_hosts" doc:"Hosts that http may reach: host, host:port or *.domain"`
	HTTPPrivate    []string       `koanf:"http_private" doc:"Those of them whose addresses may be private"`
	Fuel           int            `koanf:"fuel" doc:"For each call, instead of what the manifest says"`
	StartFuel      int            `koanf:"start_fuel" doc:"For the start of each guest, instead of what the manifest says"`
	Memory         config.Size    `koanf:"memory" doc:"Of each guest, instead of what the manifest says"`
	Guests         int            `koanf:"guests" doc:"How many are kept; 0: as many as there are processors"`
	Config         map[string]any `koanf:"config" doc:"Given to the plugin, as its manifest describes"`
}

// maxItemFuel is the most that an operator may give. It is spent in seconds, for which a
// caller and a stop may have to wait.
const maxItemFuel = 2_000_000_000

var itemName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)

// Validate refuses names that stand twice, pins that are missing and keys that are none.
func (s *Settings) Validate() error {
	seen := map[string]bool{}
	for _, i := range s.Items {
		if seen[i.Name] {
			return fmt.Errorf("items: the name %s stands twice", i.Name)
		}
		seen[i.Name] = true
		if s.RequireSHA256 && i.SHA256 == "" && !strings.HasPrefix(i.Path, builtin) {
			return fmt.Errorf("items: %s has no sha256, and require_sha256 is set", i.Name)
		}
	}
	if _, err := parseKeys(s.TrustedKeys); err != nil {
		return fmt.Errorf("trusted_keys: %w", err)
	}
	if s.RequireSignature && len(s.TrustedKeys) == 0 {
		return errors.New("require_signature needs trusted_keys")
	}
	return nil
}

// Default is what an item of the settings is before it is read.
func (i *Item) Default() { i.Percent = 100 }

// Validate refuses what no plugin can be.
func (i *Item) Validate() error {
	switch {
	case !itemName.MatchString(i.Name):
		return errors.New("name must be 1 to 64 of a-z, 0-9, - and _")
	case i.Path == "":
		return errors.New("path must not be empty")
	case !slices.Contains([]string{"", "enforce", "warn", "dry_run", "off"}, i.Mode):
		return errors.New("mode must be enforce, warn, dry_run or off")
	case !slices.Contains([]string{"", "closed", "open"}, i.Fail):
		return errors.New("fail must be closed or open")
	case i.Percent < 1 || i.Percent > 100: // who writes 0 does not mean all
		return errors.New("percent must be 1 to 100")
	case i.SHA256 != "" && !isDigest(i.SHA256):
		return errors.New("sha256 must be 64 hex digits")
	case i.ManifestSHA256 != "" && !isDigest(i.ManifestSHA256):
		return errors.New("manifest_sha256 must be 64 hex digits")
	case i.Fuel < 0 || i.StartFuel < 0 || i.Guests < 0 || i.Guests > 256:
		return errors.New("fuel and guests must not be negative, and guests at most 256")
	case i.Fuel > maxItemFuel || i.StartFuel > maxItemFuel:
		return fmt.Errorf("fuel and start_fuel must be at most %d", maxItemFuel)
	case i.Memory != 0 && (i.Memory < pageSize || i.Memory > maxMemory):
		return errors.New("memory must be 64KiB to 256MiB")
	}
	for _, c := range i.Capabilities {
		if !slices.Contains(capabilities, c) {
			return fmt.Errorf("capabilities: %s is none of log, kv, metadata.read, http, clock", c)
		}
	}
	for _, glob := range i.Projects {
		if _, err := path.Match(glob, ""); err != nil {
			return fmt.Errorf("projects: %q is no pattern", glob)
		}
	}
	return nil
}

func (i *Item) mode() policy.Mode {
	if i.Mode == "" {
		return policy.Enforce
	}
	return policy.Mode(i.Mode)
}
