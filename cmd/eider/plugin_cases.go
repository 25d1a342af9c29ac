package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/eiderdb/eider/core/wasm"
	"github.com/eiderdb/eider/core/wasm/cases"
	"github.com/eiderdb/eider/plugins"
	"github.com/spf13/cobra"
)

// errCases says that a policy did not answer as its cases want.
var errCases = errors.New("cases failed")

type bench = *cases.Bench

// newBench returns a host for the plugin in a folder, or for one of ours.
func newBench(dir string) (bench, wasm.Manifest, error) {
	m, err := readManifest(dir)
	if err != nil {
		return nil, m, err
	}
	base, err := os.UserCacheDir()
	if err != nil {
		return nil, m, err
	}
	cache := filepath.Join(base, "eider/compiled")
	path := dir
	if len(dir) < 8 || dir[:8] != "builtin:" {
		if path, err = filepath.Abs(dir); err != nil {
			return nil, m, err
		}
	}
	return cases.New(path, cache, m, plugins.Read), m, nil
}

func pluginTest(f *flags) *cobra.Command {
	var file, span, config string
	c := &cobra.Command{
		Use: "test [DIR]", Short: "Hold a plugin to the cases in its cases.yaml, or ask a policy about what is in the log (--replay)", Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			dir := folder(args)
			if span != "" {
				return f.replay(c, dir, span, config)
			}
			if file == "" {
				file = cases.Source(dir)
			}
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			parsed, err := cases.Parse(text)
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			b, _, err := newBench(dir)
			if err != nil {
				return err
			}
			defer b.Close(context.WithoutCancel(c.Context()))
			results, err := b.Run(c.Context(), parsed)
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			return printResults(c, results)
		},
	}
	c.Flags().StringVar(&file, "cases", "", "the cases, instead of cases.yaml beside the manifest")
	c.Flags().StringVar(&span, "replay", "", "FROM..TO: ask about the operations that the log of --data-dir has there: rows, days or times; either may be left out")
	c.Flags().StringVar(&config, "with", "", "with --replay: a YAML file with the plugin's configuration, instead of that in cases.yaml")
	return c
}

func printResults(c *cobra.Command, results []cases.Result) error {
	failed := 0
	for _, r := range results {
		line := fmt.Sprintf("ok    %s: %s", r.Name, r.Got)
		if r.Wrong != "" {
			failed++
			line = fmt.Sprintf("FAIL  %s: %s", r.Name, r.Wrong)
		}
		fmt.Fprintln(c.OutOrStdout(), line)
	}
	fmt.Fprintf(c.OutOrStdout(), "%d of %d cases as they should be\n", len(results)-failed, len(results))
	if failed > 0 {
		return fmt.Errorf("%d %w", failed, errCases)
	}
	return nil
}

func pluginBench() *cobra.Command {
	var calls int
	c := &cobra.Command{
		Use: "bench [DIR]", Short: "Ask a policy about the first of its cases, again and again", Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if calls < 1 {
				return errors.New("--calls has to be above 0")
			}
			dir := folder(args)
			text, err := os.ReadFile(cases.Source(dir))
			if err != nil {
				return err
			}
			f, err := cases.Parse(text)
			if err != nil {
				return err
			}
			b, m, err := newBench(dir)
			if err != nil {
				return err
			}
			defer b.Close(context.WithoutCancel(c.Context()))
			if m.Kind != wasm.Policy {
				return fmt.Errorf("%s is a sink: only policies are measured", m.Name)
			}
			config := f.Config
			if f.Cases[0].Config != nil {
				config = f.Cases[0].Config
			}
			p, err := b.Plugin(c.Context(), config, m.Capabilities)
			if err != nil {
				return err
			}
			e, err := cases.Event(f.Event, f.Cases[0].Event)
			if err != nil {
				return err
			}
			session := p.Session()
			defer session.End()
			return benchmark(c, session, e, calls)
		},
	}
	c.Flags().IntVar(&calls, "calls", 10_000, "how often")
	return c
}

func benchmark(c *cobra.Command, s *wasm.Session, e *wasm.Event, calls int) error {
	took, fuel := make([]time.Duration, calls), make([]int64, calls)
	for i := range calls {
		if err := s.Ready(c.Context()); err != nil {
			return err
		}
		begun := time.Now()
		d, asked, err := s.Ask(c.Context(), e)
		took[i], fuel[i] = time.Since(begun), d.Fuel
		if err != nil {
			return err
		}
		if !asked {
			return errors.New("the manifest's operations and expression spare the policy the first case")
		}
	}
	slices.Sort(took)
	slices.Sort(fuel)
	at := func(share float64) int { return min(calls-1, int(share*float64(calls))) }
	_, err := fmt.Fprintf(c.OutOrStdout(), "%d calls: p50 %v, p99 %v, most %v; fuel p50 %d, most %d\n",
		calls, took[at(0.5)], took[at(0.99)], took[calls-1], fuel[at(0.5)], fuel[calls-1])
	return err
}
