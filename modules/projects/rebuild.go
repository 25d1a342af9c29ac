package projects

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/check"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/projectdb"
	"github.com/eiderdb/eider/core/projectdb/worker"
	"github.com/eiderdb/eider/core/usage"
)

// rebuildBatch is how many rows share a commit and a row of the log.
const rebuildBatch = 200

// rebuild makes the rows of projects again: who they are from project.json, what
// they hold by asking their databases, several side by side.
func (p *Projects) rebuild(ctx context.Context, r *check.Rebuild) error {
	entries, err := os.ReadDir(p.folders.path(projectsDir))
	if err != nil {
		return fmt.Errorf("read the folder of projects: %w", errors.Unwrap(err))
	}
	names, found := make(chan string), make(chan rebuilt)
	var wg sync.WaitGroup
	for range r.Workers {
		wg.Go(func() {
			for name := range names {
				found <- p.read(ctx, name)
			}
		})
	}
	go func() {
		for _, e := range entries {
			names <- e.Name()
		}
		close(names)
		wg.Wait()
		close(found)
	}()
	var batch []rebuilt
	done := 0
	for one := range found {
		if done++; one.lost != "" {
			r.Lose(one.lost)
		}
		if one.before {
			r.Count("projects_before", 1)
		}
		if one.project.UID != "" && err == nil {
			batch = append(batch, one)
		}
		if len(batch) == rebuildBatch {
			err = errors.Join(err, p.bringBackRows(ctx, r, batch))
			batch = nil
		}
		r.Tell("projects", done, len(entries))
	}
	if err = errors.Join(err, ctx.Err()); err != nil || len(batch) == 0 {
		return err
	}
	return p.bringBackRows(ctx, r, batch)
}

// rebuilt is a project as its folder tells. Lost says what the folder does not tell.
type rebuilt struct {
	project eider.Project
	rows    int64
	logID   int64 // of the log that is lost: up to there project.json tells
	lost    string
	before  bool // an earlier try has brought it back
}

func (p *Projects) read(ctx context.Context, name string) (one rebuilt) {
	folder := filepath.Join(projectsDir, name)
	text, err := os.ReadFile(p.folders.path(folder, sidecarFile))
	var is sidecar
	if err == nil {
		err = json.Unmarshal(text, &is)
	}
	if err != nil || is.UID == "" || eider.CheckProjectID(is.ID) != nil {
		return rebuilt{lost: folder + ": it has no project.json that can be read"}
	}
	project := eider.Project{
		ID: is.ID, UID: is.UID, Name: is.Name, Settings: is.Settings, Status: is.Status, LockReason: is.LockReason,
		CreatedAt: is.CreatedAt.UTC(), UpdatedAt: is.CreatedAt.UTC(), DeletedAt: utc(is.DeletedAt), PurgeAt: utc(is.PurgeAt),
	}
	if is.UpdatedAt != nil {
		project.UpdatedAt = is.UpdatedAt.UTC()
	}
	if len(project.UID) < 23 || folderOf(project) != folder || !keepsDatabase(project) || strings.HasPrefix(name, ".") {
		return rebuilt{lost: folder + ": its project.json is of another folder"}
	}
	project.DBPath = databaseIn(folder)
	one.project, one.logID = project, is.LogID
	if _, err := p.rows.Get(ctx, p.pipeline.Store.View(), project.UID); err == nil {
		return rebuilt{before: true}
	}
	if _, err := os.Stat(p.folders.path(project.DBPath)); err != nil {
		one.lost = "project " + project.ID + ": its database is not in its place"
		return one
	}
	var m worker.Measured
	if err := p.databases.Do(ctx, projectdb.Of(project).Patiently(), measureRequest, &m); err != nil {
		if ctx.Err() != nil {
			return rebuilt{}
		}
		p.log.Error("a database cannot be opened", "project", project.ID, "error", err)
		one.lost = "project " + project.ID + ": its database cannot be opened"
	}
	m = m.Within(p.databases.Size(projectdb.Of(project)))
	one.project.SizeBytes, one.project.TableCount, one.project.BucketCount, one.rows = m.Size, m.Tables, m.Buckets, m.Rows
	return one
}

func (p *Projects) bringBackRows(ctx context.Context, r *check.Rebuild, batch []rebuilt) error {
	logIDs := map[string]int64{}
	for _, one := range batch {
		logIDs[one.project.ID] = one.logID
		r.Tells(one.logID)
	}
	kept := 0
	err := r.Commit(ctx, "project", map[string]any{"log_ids": logIDs}, func(tx *metadata.Tx) error {
		kept = 0
		for _, one := range batch {
			err := p.rows.Put(ctx, tx, newRow(one.project))
			var taken *metadata.DuplicateError
			if errors.As(err, &taken) {
				r.Lose(folderOf(one.project) + ": another project has its id")
				continue
			}
			if err != nil {
				return err
			}
			kept++
			if err := p.usage.Add(ctx, tx, one.project.UID, usage.Amounts{Projects: 1, Tables: one.project.TableCount, Rows: one.rows}); err != nil {
				return err
			}
		}
		return nil
	})
	r.Count("projects", kept)
	return err
}
