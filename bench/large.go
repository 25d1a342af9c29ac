package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/eiderdb/eider/core/duck"
	"github.com/google/uuid"
)

// largeFolder returns the data folder with many projects, made at its first use.
// Making them by POST would take minutes: a server makes the folder, and once it
// has stopped the appender adds what a POST leaves in the hot tables. There are
// no folders of projects behind the rows, and no rows in the log.
func (b *bench) largeFolder(ctx context.Context) (string, error) {
	b.table.note(fmt.Sprintf("The %s projects are rows in the register (with a key and usage each), put there by the appender: "+
		"no folders stand behind them, and the log does not tell of them.", thousands(int64(b.projects))))
	if b.large != "" {
		return b.large, nil
	}
	dir, err := b.fresh("large")
	if err != nil {
		return "", err
	}
	s, err := b.serve(dir)
	if err != nil {
		return "", err
	}
	if err := s.stop(); err != nil {
		return "", err
	}
	if err := appendProjects(ctx, filepath.Join(dir, "metadata.duckdb"), b.projects); err != nil {
		return "", err
	}
	b.large = dir
	return dir, nil
}

func appendProjects(ctx context.Context, path string, count int) error {
	db, err := duck.Open(ctx, path, duck.Options{})
	if err != nil {
		return err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return errors.Join(err, db.Close())
	}
	tables := map[string][][]any{"projects": nil, "api_keys": nil, "usage": nil}
	begun := time.Now().UTC().Add(-time.Duration(count) * time.Minute).Truncate(time.Microsecond)
	for i := range count {
		for table, values := range projectRows(i, begun.Add(time.Duration(i)*time.Minute)) {
			tables[table] = append(tables[table], values)
		}
	}
	tables["usage"] = append(tables["usage"], []any{"server", int64(count), int64(0), int64(0), int64(0), int64(0), begun})
	err = conn.Begin(ctx)
	for table, rows := range tables {
		err = errors.Join(err, conn.Append(table, rows))
	}
	return errors.Join(err, conn.Commit(), conn.Close(), db.Close())
}

// teams give the names something to be filtered by: one in ten projects is of
// each team.
var teams = []string{"sales", "finance", "research", "support", "logistics", "marketing", "billing", "quality", "security", "operations"}

func largeID(i int) string { return fmt.Sprintf("project-%06d", i) }

// projectRows are the rows that POST /projects leaves in the hot tables. One
// project in ten is locked.
func projectRows(i int, at time.Time) map[string][]any {
	id, uid, hash := largeID(i), uuid.Must(uuid.NewV7()).String(), sha256.Sum256(fmt.Appendf(nil, "no key opens %d", i))
	hex := strings.ReplaceAll(uid, "-", "") // what the folder is named by
	name := fmt.Sprintf("%s warehouse %d", teams[i%len(teams)], (i*7919)%1_000_003)
	status, reason := "active", ""
	if i%100 < 10 {
		status, reason = "locked", "month end"
	}
	return map[string][]any{
		"projects": {uid, id, name, "duckdb/project_" + id + "." + hex[13:16] + hex[17:22] + "/db/data.duckdb", at, at.Add(time.Hour),
			int64(12288 + i%1000*4096), int64(i % 50), int64(i % 5), status, `{"tier":"standard","owner":"team@example.com"}`, reason, nil, nil, nil},
		"api_keys": {fmt.Sprintf("%016x", i), id, uid, hash[:], "project_admin", "first key of " + id, at, nil, nil, nil, ""},
		"usage":    {uid, int64(1), int64(0), int64(0), int64(0), int64(0), at},
	}
}
