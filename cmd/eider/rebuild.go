package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/eiderdb/eider/core/app"
	"github.com/spf13/cobra"
)

func rebuildCommand(f *flags) *cobra.Command {
	var asJSON, yes bool
	c := &cobra.Command{
		Use: "rebuild", Short: "Make the register of a stopped server again, from its folders", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o := app.Options{Out: io.Discard}
			tell := func(string, int, int) {}
			if isTerminal() {
				o.Terminal = os.Stderr
				tell = func(what string, done, of int) { fmt.Fprintf(os.Stderr, "\r%s: %d of %d", what, done, of) }
			}
			a, err := f.load(o)
			if err != nil {
				return err
			}
			done, err := a.Rebuild(c.Context(), yes, tell)
			if err == nil || errors.Is(err, app.ErrRebuilt) {
				err = errors.Join(err, printRebuilt(c.OutOrStdout(), done, asJSON))
			}
			return err
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "also where the metadata can be read: what no folder tells is lost")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func printRebuilt(out io.Writer, done app.Rebuilt, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(out).Encode(done)
	}
	fmt.Fprintf(out, "brought back: %d projects, %d files, %d uploads, %d backups\n", done.Counts["projects"], done.Counts["files"], done.Counts["uploads"], done.Counts["backups"])
	if projects, files := done.Counts["projects_before"], done.Counts["files_before"]; projects+files > 0 {
		fmt.Fprintf(out, "and before, by tries that were cut short: %d projects, %d files and uploads\n", projects, files)
	}
	for _, lost := range done.Lost {
		fmt.Fprintf(out, "not brought back: %s\n", lost)
	}
	if done.LogID > 0 {
		fmt.Fprintf(out, "the folders tell of the log that is lost up to its row %d; each one's row is in the new log\n", done.LogID)
	}
	_, err := fmt.Fprintf(out, `what no folder tells cannot be brought back: API keys, the log up to now, jobs, answers to repeat, purged projects,
and uploads that were announced and of which no byte was acknowledged
the old metadata and the old root key, if there were any, are in %s
the new root key is in root.key, unless auth.root_key is set: make new API keys with it
the log begins again, in epoch %d
`, done.Kept, done.Epoch)
	return err
}
