package wasm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/eiderdb/eider/core/config"
	"go.yaml.in/yaml/v3"
)

// The kinds of plugin.
const (
	Policy = "policy"
	Sink   = "sink"
)

// What a plugin may ask for.
const (
	capLog, capKV, capMetadata, capHTTP, capClock = "log", "kv", "metadata.read", "http", "clock"
)

var capabilities = []string{capLog, capKV, capMetadata, capHTTP, capClock}

const (
	pageSize  = 64 << 10
	maxMemory = 256 << 20
	maxFuel   = 1 << 40

	// What a manifest may ask for: the operator alone gives more, by the item.
	mostFuel      = 100_000_000
	mostStartFuel = 200_000_000
	mostMemory    = 64 << 20
)

// Manifest is what a plugin says of itself: plugin.yaml beside the module.
type Manifest struct {
	Name         string         `yaml:"name" json:"name"`
	Version      string         `yaml:"version" json:"version"`
	ABI          int            `yaml:"abi" json:"abi"`
	Kind         string         `yaml:"kind" json:"kind" enum:"policy,sink"`
	Description  string         `yaml:"description" json:"description,omitempty"`
	Module       string         `yaml:"module" json:"module"`
	Operations   []string       `yaml:"operations" json:"operations,omitempty"`
	When         string         `yaml:"when" json:"when,omitempty"`
	Capabilities []string       `yaml:"capabilities" json:"capabilities,omitempty"`
	HTTP         ManifestHTTP   `yaml:"http" json:"http"`
	Limits       ManifestLimits `yaml:"limits" json:"limits"`
	Batch        ManifestBatch  `yaml:"batch" json:"batch"`
	Config       map[string]any `yaml:"config" json:"config,omitempty"`
}

// ManifestHTTP names the hosts that the plugin wants to reach.
type ManifestHTTP struct {
	Hosts []string `yaml:"hosts" json:"hosts,omitempty"`
}

// ManifestLimits are what the plugin wants to be held to.
type ManifestLimits struct {
	Fuel      int64       `yaml:"fuel" json:"fuel"`
	StartFuel int64       `yaml:"start_fuel" json:"start_fuel"`
	Memory    config.Size `yaml:"memory" json:"memory"`
}

// ManifestBatch says how much a sink takes at a time.
type ManifestBatch struct {
	Rows  int         `yaml:"rows" json:"rows"`
	Bytes config.Size `yaml:"bytes" json:"bytes"`
}

var pluginName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,63}$`)

// ParseManifest reads a manifest and fills in what it leaves out.
func ParseManifest(text []byte) (Manifest, error) {
	var m Manifest
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&m); err != nil {
		return m, fmt.Errorf("the manifest: %s", strings.ReplaceAll(strings.TrimPrefix(err.Error(), "yaml: "), "\n ", ";"))
	}
	m.setDefaults()
	if err := m.check(); err != nil {
		return m, fmt.Errorf("the manifest: %w", err)
	}
	return m, nil
}

func (m *Manifest) setDefaults() {
	if m.Module == "" {
		m.Module = m.Name + ".wasm"
	}
	if m.Limits.Fuel == 0 {
		m.Limits.Fuel = 1_000_000
		if m.Kind == Sink {
			m.Limits.Fuel = 50_000_000
		}
	}
	if m.Limits.StartFuel == 0 {
		m.Limits.StartFuel = 50_000_000
	}
	if m.Limits.Memory == 0 {
		m.Limits.Memory = 16 << 20
	}
	if m.Batch.Rows == 0 {
		m.Batch.Rows = 500
	}
	if m.Batch.Bytes == 0 {
		m.Batch.Bytes = 1 << 20
	}
}

func (m *Manifest) check() error {
	switch {
	case !pluginName.MatchString(m.Name):
		return errors.New("name must be 1 to 64 of a-z, 0-9 and -")
	case m.Version == "" || len(m.Version) > 64:
		return errors.New("version must be there, with at most 64 characters")
	case m.ABI != abiMajor:
		return fmt.Errorf("abi is %d, and this server knows %d", m.ABI, abiMajor)
	case m.Kind != Policy && m.Kind != Sink:
		return errors.New("kind must be policy or sink")
	case m.Module != filepath.Base(m.Module) || m.Module == "." || m.Module == "..":
		return errors.New("module must be the name of a file beside it")
	case m.Limits.Fuel < 0 || m.Limits.StartFuel < 0 || m.Limits.Fuel > maxFuel || m.Limits.StartFuel > maxFuel:
		return errors.New("limits: fuel must be above zero and at most 2^40")
	case m.Limits.Memory < pageSize || m.Limits.Memory > maxMemory:
		return errors.New("limits: memory must be 64KiB to 256MiB")
	case m.Batch.Rows < 1 || m.Batch.Rows > 5000:
		return errors.New("batch: rows must be 1 to 5000")
	case m.Batch.Bytes < 64<<10 || m.Batch.Bytes > 2<<20:
		return errors.New("batch: bytes must be 64KiB to 2MiB")
	}
	for _, c := range m.Capabilities {
		if !slices.Contains(capabilities, c) {
			return fmt.Errorf("capabilities: there is no %q", c)
		}
	}
	for _, glob := range m.Operations {
		if _, err := path.Match(glob, ""); err != nil {
			return fmt.Errorf("operations: %q is no pattern", glob)
		}
	}
	if err := checkSchema(m.Config); err != nil {
		return fmt.Errorf("config: %w", err)
	}
	return nil
}

// limits sets what the operator gives. Where he gives nothing the manifest's holds, up
// to what a plugin may ask for: it does not decide how long a server stands still.
func (m *Manifest) limits(item Item) error {
	l := &m.Limits
	for _, of := range []struct {
		key   string
		value *int64
		given int64
		most  int64
	}{
		{"fuel", &l.Fuel, int64(item.Fuel), mostFuel},
		{"start_fuel", &l.StartFuel, int64(item.StartFuel), mostStartFuel},
		{"memory", (*int64)(&l.Memory), int64(item.Memory), mostMemory},
	} {
		switch {
		case of.given > 0:
			*of.value = of.given
		case *of.value > of.most:
			return fmt.Errorf("limits: the manifest asks for %s %d, and at most %d is given: the operator gives more by %s of its item", of.key, *of.value, of.most, of.key)
		}
	}
	return nil
}

// configure returns the JSON that a guest is configured with: the operator's
// config, held against the manifest's schema, with its defaults.
func (m *Manifest) configure(given map[string]any) ([]byte, error) {
	text, err := json.Marshal(given)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	value := map[string]any{}
	if err := json.Unmarshal(text, &value); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	if value == nil {
		value = map[string]any{}
	}
	if m.Config != nil {
		if err := hold(value, m.Config, "config"); err != nil {
			return nil, err
		}
	}
	return json.Marshal(value)
}
