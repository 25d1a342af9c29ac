package main

import (
	"fmt"

	"github.com/eiderdb/eider/core/app"
	"github.com/spf13/cobra"
)

func configCommand(f *flags) *cobra.Command {
	c := group("config", "Show and check settings, without a data folder")
	c.AddCommand(
		&cobra.Command{
			Use: "print", Short: "Print every setting with its value and where it came from", Args: cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				a, err := f.load(app.Options{})
				if err != nil {
					return err
				}
				return a.Registry.Settings.Print(c.OutOrStdout())
			},
		},
		&cobra.Command{
			Use: "validate", Short: "Check the settings", Args: cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				if _, err := f.load(app.Options{}); err != nil {
					return err
				}
				_, err := fmt.Fprintln(c.OutOrStdout(), "the settings are valid")
				return err
			},
		},
		&cobra.Command{
			Use: "reference", Short: "Print a YAML file with every setting, its description and its value", Args: cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				a, err := f.load(app.Options{})
				if err != nil {
					return err
				}
				return a.Registry.Settings.Reference(c.OutOrStdout())
			},
		})
	return c
}

func openapiCommand(f *flags) *cobra.Command {
	return &cobra.Command{
		Use: "openapi", Short: "Print the OpenAPI document, generated from the declarations", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			a, err := f.load(app.Options{})
			if err != nil {
				return err
			}
			document, err := a.Document()
			if err != nil {
				return err
			}
			_, err = c.OutOrStdout().Write(document)
			return err
		},
	}
}
