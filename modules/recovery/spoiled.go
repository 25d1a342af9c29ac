package recovery

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/eiderdb/eider/core/backup"
	"github.com/eiderdb/eider/core/check"
	"github.com/eiderdb/eider/core/disk"
)

// spoil notes that the last backup's copy of a file cannot be used again: it is damaged, or
// missing. Others that are links to it are damaged, too.
func (m *maker) spoil(path string, why error) {
	switch {
	case errors.Is(why, backup.ErrDamaged):
		if info, err := os.Lstat(filepath.Join(m.last, path)); err == nil {
			m.spoilLinks(path, info)
		}
	case !errors.Is(why, fs.ErrNotExist):
		return
	}
	m.spoiled(filepath.Base(m.last))
}

// spoilLinks notes the backups in which a file is a link to damaged bytes.
func (m *maker) spoilLinks(path string, bytes fs.FileInfo) {
	for _, b := range m.recovery.kept() {
		if b.Status != complete {
			continue
		}
		info, err := os.Lstat(filepath.Join(m.recovery.final(b.ID), path))
		if err == nil && os.SameFile(info, bytes) {
			m.spoiled(b.ID)
		}
	}
}

func (m *maker) spoiled(id string) {
	if !slices.Contains(m.plan.damaged, id) {
		m.plan.damaged = append(m.plan.damaged, id)
	}
}

// sumAt returns the SHA-256 of a file, read at the pace.
func sumAt(ctx context.Context, path string, pace *check.Pace) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	sum := sha256.New()
	_, err = pace.Copy(ctx, sum, disk.Until(ctx, file))
	return hex.EncodeToString(sum.Sum(nil)), err
}
