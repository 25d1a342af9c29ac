package app

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/auth"
	"github.com/eiderdb/eider/core/config"
	"github.com/eiderdb/eider/core/projectdb"
	"github.com/eiderdb/eider/core/telemetry"
	"github.com/eiderdb/eider/core/wasm"
	"github.com/eiderdb/eider/core/web"
)

// ErrSettings says that a start cannot go on as it was told to: another one changes
// nothing.
var ErrSettings = errors.New("the settings are not valid")

// Settings is what the kernel's own sections hold.
type Settings struct {
	Top         top
	HTTP        web.Config
	Telemetry   telemetry.Config
	Auth        authSettings
	Metadata    metadataSettings
	Audit       auditSettings
	Storage     storageSettings
	Idempotency idempotencySettings
	Jobs        jobSettings
	Projects    projectdb.Settings
	Plugins     wasm.Settings
}

type top struct {
	DataDir string `koanf:"data_dir" doc:"The one folder that holds everything"`
}

type authSettings struct {
	RootKey       string          `koanf:"root_key" secret:"true" doc:"The key that opens everything, or file:PATH to read it from a file; empty: the file root.key in the data folder, made at the first start"`
	RotateURLKeys config.Duration `koanf:"rotate_url_keys" doc:"How often the secret that signs URLs is replaced; what an old one signed stays good until it expires"`
}

type metadataSettings struct {
	Engine     string      `koanf:"engine" doc:"duckdb (embedded)"`
	Checkpoint config.Size `koanf:"checkpoint_size" doc:"Write-ahead log size at which it is folded into the database"`
	Threads    int         `koanf:"threads" doc:"Threads of the metadata database"`
	Memory     config.Size `koanf:"memory" doc:"Memory limit of the metadata database"`
}

type auditSettings struct {
	SigningKey string `koanf:"signing_key" doc:"File of the ed25519 key that signs checkpoints; empty: audit/signing.key in the data folder, made at the first start"`
	Reads      string `koanf:"reads" doc:"on: reads of metadata leave log rows too; off"`

	File        string      `koanf:"file" doc:"A file that the log is written to as lines of JSON, relative to the data folder; empty: none"`
	FileMaxSize config.Size `koanf:"file_max_size" doc:"At this size the file is renamed and another begun"`
	FileKeep    int         `koanf:"file_keep" doc:"How many renamed files are kept, the newest; 0: all"`

	StrictSinks []string        `koanf:"strict_sinks" doc:"Sinks that changes wait for: names of plugins, and file; reads, and what frees space, go on"`
	StrictLag   config.Duration `koanf:"strict_lag" doc:"How old a row may get that one of strict_sinks has not taken before changes are refused"`
	SinkHold    config.Duration `koanf:"sink_hold" doc:"How long a sink that takes nothing keeps the log from being archived; 0: for ever"`
}

type storageSettings struct {
	MinFree config.Size `koanf:"min_free" doc:"Below this much free space writes are refused; deletes go on"`
	Ballast config.Size `koanf:"ballast" doc:"Size of a preallocated file that is given back when the disk is nearly full"`
}

type idempotencySettings struct {
	Keep config.Duration `koanf:"keep" doc:"How long the answers to requests with an idempotency key are kept"`
}

type jobSettings struct {
	MaxRunning int             `koanf:"max_running" doc:"How many jobs run at a time; others wait"`
	PerProject int             `koanf:"max_per_project" doc:"How many of them may be of one project; 0: half of them"`
	Keep       config.Duration `koanf:"keep" doc:"How long a job that has ended can be asked for"`
}

// Validate refuses what would run nothing or forget at once.
func (j *jobSettings) Validate() error {
	if j.MaxRunning < 1 {
		return fmt.Errorf("max_running must be at least 1")
	}
	if j.PerProject < 0 {
		return fmt.Errorf("max_per_project must not be negative")
	}
	if time.Duration(j.Keep) < time.Minute {
		return fmt.Errorf("keep must be at least 1m")
	}
	return nil
}

// share is how many jobs of one project run at a time.
func (j *jobSettings) share() int {
	if j.PerProject > 0 {
		return min(j.PerProject, j.MaxRunning)
	}
	return max(j.MaxRunning/2, 1)
}

// Validate refuses an engine that this version does not have.
func (m *metadataSettings) Validate() error {
	if m.Engine != "duckdb" {
		return fmt.Errorf("engine must be duckdb")
	}
	if m.Threads < 1 {
		return fmt.Errorf("threads must be at least 1")
	}
	if m.Memory < minMemory {
		return fmt.Errorf("memory must be at least 32MiB")
	}
	return nil
}

// minMemory is with what DuckDB can open the metadata at all.
const minMemory = 32 << 20

// Validate refuses to forget answers before their requests can be repeated.
func (i *idempotencySettings) Validate() error {
	if time.Duration(i.Keep) < time.Minute {
		return fmt.Errorf("keep must be at least 1m")
	}
	return nil
}

// Validate refuses a root key that is none, and to replace secrets so often that they
// pile up: each is kept as long as a URL can live.
func (a *authSettings) Validate() error {
	if a.RootKey != "" {
		if err := auth.CheckRootKey(a.RootKey); err != nil {
			return fmt.Errorf("root_key %w", err)
		}
	}
	if time.Duration(a.RotateURLKeys) < time.Hour {
		return fmt.Errorf("rotate_url_keys must be at least 1h")
	}
	return nil
}

// Validate refuses a word that is neither on nor off, and files and times too small.
func (a *auditSettings) Validate() error {
	if a.Reads != "on" && a.Reads != "off" {
		return fmt.Errorf("reads must be on or off")
	}
	if a.FileMaxSize < 1<<10 {
		return fmt.Errorf("file_max_size must be at least 1KiB")
	}
	if a.FileKeep < 0 || a.SinkHold < 0 {
		return fmt.Errorf("file_keep and sink_hold must not be negative")
	}
	if time.Duration(a.StrictLag) < time.Second {
		return fmt.Errorf("strict_lag must be at least 1s")
	}
	return nil
}

// Validate refuses an empty data folder.
func (t *top) Validate() error {
	if t.DataDir == "" {
		return fmt.Errorf("data_dir must not be empty")
	}
	return nil
}

func defaults() Settings {
	return Settings{
		Top: top{DataDir: "data"}, HTTP: web.Defaults(), Telemetry: telemetry.Defaults(),
		Auth:        authSettings{RotateURLKeys: config.Duration(30 * 24 * time.Hour)},
		Metadata:    metadataSettings{Engine: "duckdb", Checkpoint: 48 << 20, Threads: 1, Memory: 1 << 30},
		Audit:       auditSettings{Reads: "off", FileMaxSize: 100 << 20, FileKeep: 10, StrictLag: config.Duration(time.Minute), SinkHold: config.Duration(7 * 24 * time.Hour)},
		Storage:     storageSettings{MinFree: 256 << 20, Ballast: 64 << 20},
		Idempotency: idempotencySettings{Keep: config.Duration(24 * time.Hour)},
		Projects:    projectdb.Defaults(),
		Jobs:        jobSettings{MaxRunning: 4, Keep: config.Duration(7 * 24 * time.Hour)},
	}
}

// declare puts the kernel's sections into the registry.
func (s *Settings) declare(r *core.Registry) {
	r.Settings.Section("", &s.Top)
	r.Settings.Section("http", &s.HTTP)
	r.Settings.Section("telemetry", &s.Telemetry)
	r.Settings.Section("auth", &s.Auth)
	r.Settings.Section("metadata", &s.Metadata)
	r.Settings.Section("audit", &s.Audit)
	r.Settings.Section("storage", &s.Storage)
	r.Settings.Section("idempotency", &s.Idempotency)
	r.Settings.Section("jobs", &s.Jobs)
	r.Settings.Section("projects", &s.Projects)
	r.Settings.Section("plugins", &s.Plugins)
}

func (s *Settings) path(parts ...string) string {
	return filepath.Join(append([]string{s.Top.DataDir}, parts...)...)
}
