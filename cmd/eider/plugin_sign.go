package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/eiderdb/eider/core/wasm"
	"github.com/spf13/cobra"
)

// secretKey begins a file of a secret key: the public one is as long, and whoever signed
// with that by mistake would have a signature that nobody can verify.
const secretKey = "eider-plugin-secret:"

func pluginKeygen() *cobra.Command {
	return &cobra.Command{
		Use: "keygen FILE", Short: "Make a key for signatures: the secret one into FILE, the public one is printed", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			public, private, err := ed25519.GenerateKey(rand.Reader)
			if err != nil {
				return err
			}
			f, err := os.OpenFile(args[0], os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(f, secretKey+base64.StdEncoding.EncodeToString(private.Seed()))
			if err = errors.Join(err, f.Close()); err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), base64.StdEncoding.EncodeToString(public))
			return err
		},
	}
}

func pluginSign() *cobra.Command {
	var keyFile string
	c := &cobra.Command{
		Use: "sign [DIR]", Short: "Sign a plugin's module and manifest: writes plugin.sig", Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			text, err := os.ReadFile(keyFile)
			if err != nil {
				return err
			}
			secret, marked := strings.CutPrefix(strings.TrimSpace(string(text)), secretKey)
			seed, err := base64.StdEncoding.DecodeString(secret)
			if !marked || err != nil || len(seed) != ed25519.SeedSize {
				return fmt.Errorf("%s holds no secret key that `eider plugin keygen` made: it begins with %q", keyFile, secretKey)
			}
			manifest, module, err := signedFiles(folder(args))
			if err != nil {
				return err
			}
			key := ed25519.NewKeyFromSeed(seed)
			to := filepath.Join(folder(args), "plugin.sig")
			if err := os.WriteFile(to, []byte(wasm.Sign(key, module, manifest)), 0o644); err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s is signed; sha256 of the module: %s\n", to, wasm.Digest(module))
			return err
		},
	}
	c.Flags().StringVar(&keyFile, "key", "", "file of the secret key")
	_ = c.MarkFlagRequired("key") // the flag is there
	return c
}

func pluginVerify() *cobra.Command {
	var public string
	c := &cobra.Command{
		Use: "verify [DIR]", Short: "Hold a plugin's signature against a public key", Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			keys, err := wasm.ParseKeys([]string{public})
			if err != nil {
				return err
			}
			manifest, module, err := signedFiles(folder(args))
			if err != nil {
				return err
			}
			signature, err := readPlugin(folder(args), "plugin.sig")
			if err != nil {
				return err
			}
			if _, err := wasm.Verify(keys, module, manifest, string(signature)); err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), "the signature is good")
			return err
		},
	}
	c.Flags().StringVar(&public, "key", "", "the public key, in base64")
	_ = c.MarkFlagRequired("key") // the flag is there
	return c
}

// signedFiles reads what a signature is over.
func signedFiles(dir string) (manifest, module []byte, err error) {
	m, err := readManifest(dir)
	if err != nil {
		return nil, nil, err
	}
	if manifest, err = readPlugin(dir, "plugin.yaml"); err != nil {
		return nil, nil, err
	}
	module, err = readPlugin(dir, m.Module)
	return manifest, module, err
}
