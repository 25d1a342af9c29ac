package app

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/disk"
	"github.com/eiderdb/eider/core/duck"
	"github.com/eiderdb/eider/core/metadata"
)

// VerifyRefused walks the log of a folder that a start refuses, as it is: whoever looks
// for what was done to it needs the rows named all the same. It changes nothing.
func (a *App) VerifyRefused(ctx context.Context, from, to int64, archive bool) (v audit.Verification, err error) {
	if a.Settings.Top.DataDir, err = filepath.Abs(a.Settings.Top.DataDir); err != nil {
		return v, err
	}
	lock, err := disk.Lock(a.Settings.path(lockFile))
	if err != nil {
		return v, fmt.Errorf("lock the data folder: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	path := a.Settings.Audit.SigningKey
	if path == "" {
		path = a.Settings.path(auditDir, signingFile)
	}
	signer, err := audit.LoadSigner(path, false)
	if err != nil {
		return v, err
	}
	kept, err := audit.Checkpoints(a.Settings.path(auditDir), signer)
	if err != nil {
		return v, err
	}
	db, err := duck.Open(ctx, a.Settings.path(metadataFile), duck.Options{ReadOnly: true})
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	view := metadata.NewView(reader{db: db})
	if archive {
		return audit.VerifyArchive(ctx, view, a.Settings.path("archive"), signer, kept)
	}
	return audit.Verify(ctx, view, from, to, kept)
}

// reader is an engine that only answers.
type reader struct {
	metadata.Engine
	db *duck.DB
}

func (r reader) Query(ctx context.Context, sql string, args ...any) (metadata.Rows, error) {
	return r.db.Query(ctx, sql, args...)
}
