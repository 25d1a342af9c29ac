package main

import (
	"log/slog"
	"os"

	"github.com/eiderdb/eider/core/projectdb/worker"
	"github.com/spf13/cobra"
)

// workerCommand is what the server starts for each project that is open. It is
// of no use by hand.
func workerCommand() *cobra.Command {
	var probe string
	c := &cobra.Command{
		Use: "worker", Short: "Hold one project's database; started by the server", Args: cobra.NoArgs, Hidden: true,
		RunE: func(*cobra.Command, []string) error {
			if probe != "" {
				return probeConfinement(probe)
			}
			return worker.Serve(slog.New(slog.NewJSONHandler(os.Stderr, nil)), worker.ToFolder)
		},
	}
	c.Flags().StringVar(&probe, "probe", "", "confine the process to a folder, print what holds, and end")
	return c
}
