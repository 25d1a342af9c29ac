package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/check"
	"github.com/eiderdb/eider/modules/recovery"
	"github.com/spf13/cobra"
)

func backupCommand(f *flags) *cobra.Command {
	var metadataOnly, asJSON bool
	c := &cobra.Command{
		Use: "backup", Short: "Make a backup, also of a server that runs", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var made recovery.Backup
			body := map[string]any{"projects": !metadataOnly, "files": !metadataOnly}
			if err := f.askWith(c, "POST", "/admin/backups", body, &made); err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(made)
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "backup %s: %d files, %d bytes, up to row %d of the log\n", made.ID, made.Entries, made.SizeBytes, made.LogID)
			printLeftOut(c.OutOrStdout(), made.LeftOut)
			return err
		},
	}
	c.Flags().BoolVar(&metadataOnly, "metadata-only", false, "leave out the projects' databases and the storage files")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	list := &cobra.Command{
		Use: "list", Short: "List backups, newest first", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var all struct{ Backups []recovery.Backup }
			if err := f.ask(c, "GET", "/admin/backups", &all); err != nil {
				return err
			}
			for _, b := range all.Backups {
				fmt.Fprintf(c.OutOrStdout(), "%s %-9s row %d, %d files, %d bytes\n", b.ID, b.Status, b.LogID, b.Entries, b.SizeBytes)
			}
			return nil
		},
	}
	verify := &cobra.Command{
		Use: "verify ID", Short: "Read a backup again, open its metadata and verify the log in it", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var v recovery.Verified
			if err := f.ask(c, "POST", "/admin/backups/"+args[0]+"/verify", &v); err != nil {
				return err
			}
			for _, problem := range v.Problems {
				fmt.Fprintln(c.OutOrStdout(), problem)
			}
			if !v.Verified {
				return fmt.Errorf("backup %s is damaged", v.ID)
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "backup %s is whole: %d files, up to row %d of the log\n", v.ID, v.Entries, v.LogID)
			printLeftOut(c.OutOrStdout(), v.LeftOut)
			return err
		},
	}
	c.AddCommand(list, verify)
	return c
}

func printLeftOut(out io.Writer, files []string) {
	for _, one := range files {
		fmt.Fprintf(out, "not in it: %s\n", one)
	}
}

func restoreCommand(f *flags) *cobra.Command {
	return &cobra.Command{
		Use: "restore BACKUP", Short: "Make an empty data folder of a backup's folder, and check and repair it", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			from, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			a, err := f.load(app.Options{})
			if err != nil {
				return err
			}
			tell := func(int, int) {}
			if isTerminal() {
				tell = func(done, of int) { fmt.Fprintf(os.Stderr, "\r%d of %d files", done, of) }
			}
			done, err := a.Restore(c.Context(), from, tell)
			if err != nil {
				return err
			}
			out := c.OutOrStdout()
			fmt.Fprintf(out, "restored %s: %d files, %d bytes, up to row %d of the log\n", done.Backup, done.Entries, done.Bytes, done.LogID)
			for _, wrong := range done.Damaged {
				fmt.Fprintf(out, "damaged in the backup: %s\n", wrong)
			}
			for _, one := range done.LeftOut {
				fmt.Fprintf(out, "left out of the backup: %s\n", one)
			}
			fmt.Fprintln(out, "root key and signing key are new: backups do not hold them")
			if done.Projects && done.Files {
				err = f.repairAll(c, true, true, nil, false)
			} else {
				err = f.repairHeld(c, done)
			}
			if err == nil && len(done.Damaged)+len(done.LeftOut) > 0 {
				err = errLess
			}
			return err
		},
	}
}

// errLess says that a restore is finished, and that its backup was not whole.
var errLess = errors.New("the folder is restored, and lacks what is damaged in the backup or was left out of it")

// repairHeld repairs what a restore can have brought back wrong. What the backup never
// held is not there yet, and that is no damage: its rows stay.
func (f *flags) repairHeld(c *cobra.Command, done app.Restored) error {
	var kinds []string
	var lacks []string
	for _, kind := range check.Kinds {
		switch kind {
		case check.MissingDatabase, check.OrphanDatabase:
			if done.Projects {
				kinds = append(kinds, string(kind))
			}
		case check.MissingFile, check.OrphanFile:
			if done.Files {
				kinds = append(kinds, string(kind))
			}
		case check.SizeDrift, check.ChecksumMismatch, check.CounterDrift: // of databases and files
			if done.Projects && done.Files {
				kinds = append(kinds, string(kind))
			}
		default:
			kinds = append(kinds, string(kind))
		}
	}
	if err := f.repairAll(c, true, false, kinds, false); err != nil {
		return err
	}
	if !done.Projects {
		lacks = append(lacks, "duckdb/ (the projects' databases)")
	}
	if !done.Files {
		lacks = append(lacks, "files/ (the storage files)")
	}
	_, err := fmt.Fprintf(c.OutOrStdout(),
		"the backup does not hold %s: what the register says of it was left as it is\ncopy that over from the old data folder before a server starts here, then run `eider check --deep`\n", strings.Join(lacks, " and "))
	return err
}
