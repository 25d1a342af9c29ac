// Command eider is the server and its tools, in one binary.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/config"
	"github.com/eiderdb/eider/modules/audit"
	"github.com/eiderdb/eider/modules/files"
	"github.com/eiderdb/eider/modules/jobs"
	"github.com/eiderdb/eider/modules/keys"
	"github.com/eiderdb/eider/modules/plugins"
	"github.com/eiderdb/eider/modules/projects"
	"github.com/eiderdb/eider/modules/recovery"
	"github.com/eiderdb/eider/modules/server"
	"github.com/eiderdb/eider/modules/stats"
	"github.com/eiderdb/eider/modules/tables"
	builtin "github.com/eiderdb/eider/plugins"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// version is set by the linker in releases.
var version = "dev"

func modules() []core.Module {
	return []core.Module{server.New(), projects.New(), keys.New(), files.New(), tables.New(), jobs.New(), plugins.New(), audit.New(), stats.New(), recovery.New()}
}

func main() {
	// What a data folder holds is for nobody else, also where DuckDB makes the file.
	syscall.Umask(0o077)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "eider: %s\n", tell(err))
		os.Exit(exitCode(err))
	}
}

// flags are those that every command takes.
type flags struct{ config, dataDir, listen string }

func command() *cobra.Command {
	f := &flags{}
	root := &cobra.Command{
		Use: "eider", Short: "Control plane for DuckDB: projects, storage files, and the log of every operation",
		SilenceUsage: true, SilenceErrors: true, Version: buildVersion(),
	}
	root.PersistentFlags().StringVar(&f.config, "config", os.Getenv("EIDER_CONFIG"), "YAML file with settings (EIDER_CONFIG)")
	root.PersistentFlags().StringVar(&f.dataDir, "data-dir", "", "data folder (data_dir, EIDER_DATA_DIR)")
	root.PersistentFlags().StringVar(&f.listen, "listen", "", "host:port or unix:PATH (http.listen, EIDER_HTTP_LISTEN)")
	root.AddCommand(serveCommand(f), versionCommand(), configCommand(f), openapiCommand(f), keyCommand(f), checkCommand(f), backupCommand(f), restoreCommand(f), rebuildCommand(f), repairCommand(f), auditCommand(f), pluginCommand(f), workerCommand())
	return root
}

// load declares everything and reads the settings.
func (f *flags) load(o app.Options) (*app.App, error) {
	o.Version, o.Modules, o.Builtin = buildVersion(), modules(), builtin.Read
	a, err := app.New(o)
	if err != nil {
		return nil, err
	}
	given := map[string]string{}
	if f.dataDir != "" {
		given["data_dir"] = f.dataDir
	}
	if f.listen != "" {
		given["http.listen"] = f.listen
	}
	if err := a.Load(config.Sources{File: f.config, Environ: os.Environ(), Flags: given}); err != nil {
		return nil, fmt.Errorf("%w:\n%w", app.ErrSettings, err)
	}
	return a, nil
}

func buildVersion() string {
	if version != "dev" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && len(s.Value) >= 12 {
				return "dev-" + s.Value[:12]
			}
		}
	}
	return version
}

// group is a command that is there for those in it, and refuses what is none of them.
func group(use, short string) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		Run: func(c *cobra.Command, _ []string) { fmt.Fprintln(c.OutOrStdout(), "eider "+buildVersion()) },
	}
}

func isTerminal() bool { return term.IsTerminal(int(os.Stderr.Fd())) }
