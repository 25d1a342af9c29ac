package disk

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Until returns a reader of r that ends with ctx's error once ctx has ended.
func Until(ctx context.Context, r io.Reader) io.Reader { return &until{ctx, r} }

type until struct {
	ctx context.Context
	r   io.Reader
}

// Read reads.
func (u *until) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}

// Sum reads a file, until ctx ends, and returns its SHA-256 in hex and its length.
func Sum(ctx context.Context, path string) (sum string, length int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, fmt.Errorf("open %s: %w", filepath.Base(path), errors.Unwrap(err))
	}
	defer f.Close()
	h := sha256.New()
	length, err = io.Copy(h, Until(ctx, f))
	return hex.EncodeToString(h.Sum(nil)), length, err
}

// SyncFile makes the content of a file durable that others have written.
func (f *FS) SyncFile(path string) error {
	return f.step("sync", path, "", func() error {
		w, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		return errors.Join(w.Sync(), w.Close())
	})
}
