package main

import (
	"fmt"
	"net/url"

	"github.com/spf13/cobra"
)

func pluginSkip(f *flags) *cobra.Command {
	var first, last int64
	var yes bool
	c := &cobra.Command{
		Use: "skip NAME --first ID --last ID", Short: "Leave out rows of the log that a sink does not take", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var done struct {
				Rows   int64
				DryRun bool `json:"dry_run"`
			}
			body := map[string]any{"first_id": first, "last_id": last, "dry_run": !yes}
			if err := f.askWith(c, "POST", "/plugins/"+url.PathEscape(args[0])+"/skip", body, &done); err != nil {
				return err
			}
			if done.DryRun {
				_, err := fmt.Fprintf(c.OutOrStdout(), "would leave out rows %d to %d (%d) for %s; --yes does it\n", first, last, done.Rows, args[0])
				return err
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "rows %d to %d (%d) are left out for %s\n", first, last, done.Rows, args[0])
			return err
		},
	}
	c.Flags().Int64Var(&first, "first", 0, "the first row, which the sink is given next")
	c.Flags().Int64Var(&last, "last", 0, "the last row")
	c.Flags().BoolVar(&yes, "yes", false, "do it, instead of telling what would be done")
	_ = c.MarkFlagRequired("first")
	_ = c.MarkFlagRequired("last")
	return c
}
