package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/eiderdb/eider/core/wasm"
	"github.com/eiderdb/eider/plugins"
	"github.com/eiderdb/eider/sdk"
	"github.com/spf13/cobra"
)

// pluginCommand is for those who write plugins. None of its commands but skip and
// `test --replay` needs a data folder, and none but `toolchains --install` a network.
func pluginCommand(f *flags) *cobra.Command {
	c := group("plugin", "Write, build and test plugins")
	c.AddCommand(pluginInit(), pluginBuild(), pluginTest(f), pluginBench(), pluginInspect(), pluginKeygen(), pluginSign(), pluginVerify(),
		pluginList(), pluginToolchains(), pluginSkip(f))
	return c
}

func pluginInit() *cobra.Command {
	var language, kind string
	c := &cobra.Command{
		Use: "init NAME", Short: "Begin a plugin in a new folder NAME, its SDK within", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			dir := args[0]
			if err := sdk.Init(dir, filepath.Base(dir), language, kind); err != nil {
				return err
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "%s is a %s in %s; next: eider plugin build %s\n", dir, kind, language, dir)
			return err
		},
	}
	c.Flags().StringVar(&language, "lang", "go", strings.Join(sdk.Languages(), ", "))
	c.Flags().StringVar(&kind, "kind", "policy", strings.Join(sdk.Kinds(), ", "))
	return c
}

func pluginBuild() *cobra.Command {
	return &cobra.Command{
		Use: "build [DIR]", Short: "Compile a plugin into the module that its manifest names", Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			dir := folder(args)
			m, err := readManifest(dir)
			if err != nil {
				return err
			}
			language, err := sdk.Language(dir)
			if err != nil {
				return err
			}
			tools, err := sdk.Toolchain(c.Context(), language, false, io.Discard)
			if err != nil {
				return err
			}
			out := filepath.Join(dir, m.Module)
			if err := sdk.Build(c.Context(), dir, out, tools, c.ErrOrStderr()); err != nil {
				return err
			}
			module, err := os.ReadFile(out)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s: %d bytes\n", out, len(module))
			return err
		},
	}
}

func folder(args []string) string {
	if len(args) == 0 {
		return "."
	}
	return args[0]
}

func readManifest(dir string) (wasm.Manifest, error) {
	text, err := readPlugin(dir, "plugin.yaml")
	if err != nil {
		return wasm.Manifest{}, err
	}
	return wasm.ParseManifest(text)
}

// readPlugin reads a file of a plugin, in a folder or built in.
func readPlugin(dir, name string) ([]byte, error) {
	if builtin, ok := strings.CutPrefix(dir, "builtin:"); ok {
		return plugins.Read(builtin + "/" + name)
	}
	return os.ReadFile(filepath.Join(dir, name))
}

func pluginToolchains() *cobra.Command {
	var install bool
	c := &cobra.Command{
		Use: "toolchains [LANGUAGE..]", Short: "Say what compiles plugins here, or install what is missing", ValidArgs: sdk.Languages(), Args: cobra.OnlyValidArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = sdk.Languages()
			}
			var failed []error
			for _, language := range args {
				tools, err := sdk.Toolchain(c.Context(), language, install, c.ErrOrStderr())
				failed = append(failed, err)
				for name, path := range tools {
					fmt.Fprintf(c.OutOrStdout(), "%s: %s=%s\n", language, name, path)
				}
			}
			return errors.Join(failed...)
		},
	}
	c.Flags().BoolVar(&install, "install", false, "install what is missing from package registries")
	return c
}

func pluginList() *cobra.Command {
	var builtin bool
	c := &cobra.Command{
		Use: "list", Short: "List the plugins that this binary brings (--builtin); GET /plugins shows those of a server", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if !builtin {
				return errors.New("say --builtin; the plugins of a server are shown by GET /plugins")
			}
			for _, name := range plugins.Names() {
				m, err := readManifest("builtin:" + name)
				if err != nil {
					return err
				}
				state := "builtin:" + name
				if _, err := plugins.Read(name + "/" + m.Module); errors.Is(err, plugins.ErrNotBuilt) {
					state = "not in this binary: make build"
				} else if err != nil {
					return err
				}
				fmt.Fprintf(c.OutOrStdout(), "%-14s %-7s %-7s %s (%s)\n", name, m.Version, m.Kind, m.Description, state)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&builtin, "builtin", false, "those in this binary")
	return c
}

func pluginInspect() *cobra.Command {
	return &cobra.Command{
		Use: "inspect [DIR|builtin:NAME]", Short: "Load a plugin as a server would, and say what it is", Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			dir := folder(args)
			b, m, err := newBench(dir)
			if err != nil {
				return err
			}
			defer b.Close(context.WithoutCancel(c.Context()))
			module, err := readPlugin(dir, m.Module)
			if err != nil {
				return err
			}
			manifest, err := readPlugin(dir, "plugin.yaml")
			if err != nil {
				return err
			}
			out := c.OutOrStdout()
			fmt.Fprintf(out, "name:         %s %s\nkind:         %s\n", m.Name, m.Version, m.Kind)
			if m.Description != "" {
				fmt.Fprintf(out, "description:  %s\n", m.Description)
			}
			fmt.Fprintf(out, "module:       %s, %d bytes\nsha256:       %s\nmanifest:     sha256 %s\n", m.Module, len(module), wasm.Digest(module), wasm.Digest(manifest))
			fmt.Fprintf(out, "operations:   %s\ncapabilities: %s\n", orAll(m.Operations), orNone(m.Capabilities))
			fmt.Fprintf(out, "limits:       fuel %d, start_fuel %d, memory %s\n", m.Limits.Fuel, m.Limits.StartFuel, m.Limits.Memory)
			for _, name := range configNames(m.Config) {
				fmt.Fprintf(out, "config:       %s\n", name)
			}
			return inspectLoad(c, b, m)
		},
	}
}

// inspectLoad loads the plugin without a configuration, which some refuse.
func inspectLoad(c *cobra.Command, b bench, m wasm.Manifest) error {
	if _, err := b.Plugin(c.Context(), nil, m.Capabilities); err != nil {
		_, err = fmt.Fprintf(c.OutOrStdout(), "loads:        not without configuration: %v\n", err)
		return err
	}
	_, err := fmt.Fprintln(c.OutOrStdout(), "loads:        yes")
	return err
}

func configNames(schema map[string]any) []string {
	properties, _ := schema["properties"].(map[string]any)
	var all []string
	for name, one := range properties {
		property, _ := one.(map[string]any)
		text := fmt.Sprintf("%s, %v", name, property["type"])
		if d, ok := property["description"]; ok {
			text += fmt.Sprintf(": %v", d)
		}
		all = append(all, text)
	}
	slices.Sort(all)
	return all
}

func orAll(names []string) string {
	if len(names) == 0 {
		return "all"
	}
	return strings.Join(names, ", ")
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
