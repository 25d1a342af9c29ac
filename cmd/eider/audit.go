package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/audit"
	"github.com/spf13/cobra"
)

// errBroken says that the log does not hold.
var errBroken = errors.New("the log is broken")

func auditCommand(f *flags) *cobra.Command {
	c := group("audit", "The log of operations")
	var from, to int64
	var asJSON, archive bool
	verify := &cobra.Command{
		Use: "verify", Short: "Verify the log's chain against its checkpoints", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var v audit.Verification
			err := f.ask(c, "GET", fmt.Sprintf("/operations/verify?from=%d&to=%d&archive=%t", from, to, archive), &v)
			refused := errors.Is(err, audit.ErrForked) || errors.Is(err, audit.ErrUnchained) || errors.Is(err, audit.ErrBehind)
			if refused {
				fmt.Fprintf(c.ErrOrStderr(), "%v: walking it as it is\n", err)
				a, loadErr := f.load(app.Options{})
				if loadErr != nil {
					return loadErr
				}
				var walkErr error
				if v, walkErr = a.VerifyRefused(c.Context(), from, to, archive); walkErr != nil {
					return errors.Join(err, walkErr)
				}
			} else if err != nil {
				return err
			}
			if broken := printVerification(c, v, asJSON); broken != nil && !errors.Is(err, audit.ErrBehind) {
				return broken
			}
			return err
		},
	}
	verify.Flags().Int64Var(&from, "from", 0, "first row")
	verify.Flags().Int64Var(&to, "to", 0, "last row")
	verify.Flags().BoolVar(&archive, "archive", false, "also verify the rows that were archived")
	verify.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.AddCommand(verify)
	return c
}

func printVerification(c *cobra.Command, v audit.Verification, asJSON bool) error {
	out := c.OutOrStdout()
	if asJSON {
		if err := json.NewEncoder(out).Encode(v); err != nil {
			return err
		}
	} else if v.Verified {
		fmt.Fprintf(out, "the log holds: rows %d to %d, %d checked, checkpoints compared: %d\n", v.FirstID, v.LastID, v.Checked, v.Checkpoints)
	}
	switch {
	case v.Unproven:
		fmt.Fprintln(c.ErrOrStderr(), "warning: those checkpoints were signed since the others were lost: compare the newest row with one that is kept elsewhere")
	case v.Checkpoints == 0 && v.Checked > 0:
		fmt.Fprintln(c.ErrOrStderr(), "warning: no checkpoint names one of these rows: nothing but the chain was compared")
	}
	if n := len(v.OtherArchives); n > 0 && !asJSON {
		fmt.Fprintf(out, "not walked: %d archives of another log, such as one that was lost before a rebuild: %s\n", n, strings.Join(v.OtherArchives, ", "))
	}
	if n := len(v.OtherKeys); n > 0 && !asJSON {
		fmt.Fprintf(out, "walked, and signed by another key, such as that of before a restore: %d archives: %s\n", n, strings.Join(v.OtherKeys, ", "))
	}
	if v.Verified {
		return nil
	}
	if !asJSON {
		for _, b := range v.Breaks {
			fmt.Fprintf(out, "%s: %s\n", b.Kind, b.Detail)
		}
		if v.BreaksOmitted > 0 {
			fmt.Fprintf(out, "and %d more\n", v.BreaksOmitted)
		}
		fmt.Fprintf(out, "checked: rows %d to %d, %d in all\n", v.FirstID, v.LastID, v.Checked)
	}
	return fmt.Errorf("%w at row %d (%s): %s", errBroken, v.BrokenAt.ID, v.BrokenAt.Kind, v.BrokenAt.Detail)
}

func keyCommand(f *flags) *cobra.Command {
	c := group("key", "API keys")
	var root bool
	create := &cobra.Command{
		Use: "create", Short: "Replace the root key (--root); other keys are made over the API", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if !root {
				return errors.New("say --root: other keys are made over the API, POST /api-keys and POST /projects/{id}/api-keys")
			}
			var made struct {
				RootKey string `json:"root_key"`
				File    string `json:"file"`
			}
			if err := f.ask(c, "POST", "/admin/root-key", &made); err != nil {
				return err
			}
			fmt.Fprintf(c.ErrOrStderr(), "the old root key is no longer valid; the new one is kept in %s\n", made.File)
			_, err := fmt.Fprintln(c.OutOrStdout(), made.RootKey)
			return err
		},
	}
	create.Flags().BoolVar(&root, "root", false, "replace the root key")
	c.AddCommand(create)
	return c
}

func repairCommand(f *flags) *cobra.Command {
	var wal, dryRun, asJSON, yes, deep bool
	var kinds []string
	c := &cobra.Command{
		Use: "repair", Short: "Put right what a check finds (a dry run without --yes), or a damaged write-ahead log (--wal)", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if !wal {
				return f.repairAll(c, yes && !dryRun, deep, kinds, asJSON)
			}
			a, err := f.load(app.Options{})
			if err != nil {
				return err
			}
			report, err := a.RepairWAL(c.Context(), dryRun)
			if err != nil {
				return err
			}
			return printRepair(c, report, dryRun, asJSON)
		},
	}
	c.Flags().BoolVar(&wal, "wal", false, "make the metadata open again after its write-ahead log was damaged")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be done; without --wal that is so unless --yes is given")
	c.Flags().BoolVar(&yes, "yes", false, "repair what a check finds")
	c.Flags().BoolVar(&deep, "deep", false, "repair what a deep check finds")
	c.Flags().StringSliceVar(&kinds, "kinds", nil, "what to repair, such as orphan_file,size_drift: all if absent")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func printRepair(c *cobra.Command, r app.WALReport, dryRun, asJSON bool) error {
	out := c.OutOrStdout()
	if asJSON {
		return json.NewEncoder(out).Encode(r)
	}
	switch {
	case r.NothingToDo && r.Original != "":
		_, err := fmt.Fprintf(out, "nothing to repair: that was done; the originals are in %s, and the next start logs the loss\n", r.Original)
		return err
	case r.NothingToDo:
		_, err := fmt.Fprintf(out, "nothing to repair: the write-ahead log replays to row %d and no checkpoint names a later one\n", r.Head)
		return err
	}
	fmt.Fprintf(out, "%d of %d bytes of the write-ahead log can be read, up to row %d of the log of operations\n", r.KeptBytes, r.WALBytes, r.Head)
	if r.Missing > 0 {
		fmt.Fprintf(out, "missing: %d rows, %d to %d, that the newest checkpoint proves, and the changes that they report\n", r.Missing, r.Head+1, r.Checkpoint)
	} else {
		fmt.Fprintf(out, "missing: what the other %d bytes held; no checkpoint names a row behind %d\n", r.WALBytes-r.KeptBytes, r.Head)
	}
	if dryRun {
		_, err := fmt.Fprintln(out, "dry run: nothing was changed")
		return err
	}
	_, err := fmt.Fprintf(out, "repaired; the originals are in %s, and the next start logs the loss\n", r.Original)
	return err
}
