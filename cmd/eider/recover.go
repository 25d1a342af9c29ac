package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/eiderdb/eider/core/check"
	"github.com/eiderdb/eider/modules/recovery"
	"github.com/spf13/cobra"
)

// errInconsistent says that a check has found something.
var errInconsistent = errors.New("the register and the folders do not agree")

func checkCommand(f *flags) *cobra.Command {
	var deep, asJSON bool
	c := &cobra.Command{
		Use: "check", Short: "Compare the register with what is in the data folder", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var report check.Report
			if err := f.ask(c, "GET", fmt.Sprintf("/health/consistency?deep=%t", deep), &report); err != nil {
				return err
			}
			return printCheck(c.OutOrStdout(), report, asJSON)
		},
	}
	c.Flags().BoolVar(&deep, "deep", false, "also open every database and read every file again")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func printCheck(out io.Writer, report check.Report, asJSON bool) error {
	switch {
	case asJSON:
		if err := json.NewEncoder(out).Encode(report); err != nil {
			return err
		}
	case report.Consistent:
		fmt.Fprintln(out, "consistent: what the register names is there, and nothing else is")
	}
	if report.Consistent {
		return nil
	}
	if !asJSON {
		for _, f := range report.Findings {
			printFinding(out, f, string(f.Severity))
		}
	}
	return fmt.Errorf("%w: %d findings; `eider repair` tells what it would do, `eider repair --yes` does it", errInconsistent, len(report.Findings))
}

func printFinding(out io.Writer, f check.Finding, word string) {
	fmt.Fprintf(out, "%-10s %-17s %s\n    %s\n    repair: %s\n", word, f.Kind, f.Resource, f.Detail, f.Repair)
}

// repairAll has the server put right what a check finds.
func (f *flags) repairAll(c *cobra.Command, yes, deep bool, kinds []string, asJSON bool) error {
	body := map[string]any{"dry_run": !yes, "deep": deep}
	if len(kinds) > 0 {
		body["kinds"] = kinds
	}
	var done recovery.Repaired
	if err := f.askWith(c, "POST", "/admin/repair", body, &done); err != nil {
		return err
	}
	out := c.OutOrStdout()
	if asJSON {
		if err := json.NewEncoder(out).Encode(done); err != nil {
			return err
		}
	} else {
		for _, h := range done.Findings {
			printFinding(out, h.Finding, h.Status)
			if h.Error != "" {
				fmt.Fprintf(out, "    failed: %s\n", h.Error)
			}
		}
		switch {
		case len(done.Findings) == 0:
			fmt.Fprintln(out, "nothing to repair")
		case done.DryRun:
			fmt.Fprintln(out, "dry run: nothing was changed; --yes does it")
		default:
			fmt.Fprintf(out, "%d repaired, %d failed, %d for people to do\n", done.Repaired, done.Failed, len(done.Findings)-done.Repaired-done.Failed)
		}
	}
	if done.Failed > 0 {
		return fmt.Errorf("%d repairs failed; the server's log says why", done.Failed)
	}
	return nil
}
