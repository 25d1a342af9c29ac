package projects

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/check"
	"github.com/eiderdb/eider/core/disk"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/projectdb"
	"github.com/eiderdb/eider/core/projectdb/wire"
	"github.com/eiderdb/eider/core/projectdb/worker"
)

// A size is compared with slack: folding the log into the database, which happens
// whenever a worker ends, changes it without an operation.
const sizeSlack = 8 << 20

// openAtATime is how many databases a deep check has open for itself.
const openAtATime = 4

// find compares the projects with their folders. The folders are read before the
// rows, so that whatever has a row or had one meanwhile is not called an orphan.
func (p *Projects) find(ctx context.Context, s check.Scope, tell func(check.Finding)) error {
	entries, err := os.ReadDir(p.folders.path(projectsDir))
	if err != nil {
		return fmt.Errorf("read the folder of projects: %w", errors.Unwrap(err))
	}
	// A call that ends meanwhile has its row by the time that rows are read.
	var plans strings.Builder
	for _, r := range p.audit.Unfinished() {
		if ofProjects(r) {
			plans.WriteString(r.Details)
		}
	}
	known := map[string]bool{}
	var all []eider.Project
	p.rows.Scan(metadata.Range[row]{Order: byNewest}, func(r *row) bool {
		if r.Status != eider.ProjectPurged {
			known[folderOf(r.Project)] = true
			all = append(all, r.Project)
		}
		return true
	})
	for _, e := range entries {
		if folder := projectsDir + "/" + e.Name(); !known[folder] && !planned(plans.String(), e.Name()) {
			p.tellOrphan(folder, "no project has this folder", tell)
		}
	}
	for _, project := range all {
		if err := ctx.Err(); err != nil {
			return err
		}
		look := func(now eider.Project) (*check.Finding, error) { return p.lookBeside(now, s.Deep) }
		if err := errors.Join(p.confirm(ctx, project.UID, p.lookAt, tell), p.confirm(ctx, project.UID, look, tell)); err != nil {
			return err
		}
	}
	if s.Deep {
		return p.findDeep(ctx, all, tell)
	}
	return nil
}

// ofProjects reports whether a call may make, move or remove a project's folder. What a
// tenant's statement names says nothing about folders.
func ofProjects(r audit.Row) bool { return r.ResourceType == "project" && r.Operation != "query" }

// planned reports whether a call under way has the folder: by its name, or as the call
// whose id is in it.
func planned(plans, name string) bool {
	name = strings.TrimPrefix(name, ".new-")
	return len(name) > 8 && strings.Contains(plans, name) // a few letters are in every plan
}

// keepsDatabase reports whether a project in this state has its database in its
// place: one that is being made or purged may or may not.
func keepsDatabase(p eider.Project) bool {
	return p.Status == eider.ProjectActive || p.Status == eider.ProjectLocked || p.Status == eider.ProjectDeleted
}

// moment is what operations change of a project, to see that none did.
type moment struct {
	status                eider.ProjectStatus
	size, tables, buckets int64
	updated, measured     time.Time
}

// confirm tells what look finds wrong with a project as it is now, unless that is an
// operation under way.
func (p *Projects) confirm(ctx context.Context, uid string, look func(eider.Project) (*check.Finding, error), tell func(check.Finding)) error {
	now := func() (row, bool) {
		r, err := p.rows.Get(ctx, p.pipeline.Store.View(), uid)
		return r, err == nil && keepsDatabase(r.Project)
	}
	found, err := check.Confirm(ctx, func() (moment, bool) {
		free := !p.pipeline.Store.Claimed(operation.ProjectResource(uid)) // before the row: who lets go has changed it
		r, _ := now()
		return moment{r.Status, r.SizeBytes, r.TableCount, r.BucketCount, r.UpdatedAt, r.measured}, free
	}, func() (*check.Finding, error) {
		if r, kept := now(); kept {
			return look(r.Project)
		}
		return nil, nil
	})
	if found != nil {
		tell(*found)
	}
	return err
}

func (p *Projects) tellOrphan(folder, detail string, tell func(check.Finding)) {
	if there, err := p.folders.exists(folder); err != nil || !there {
		return // it was on its way
	}
	tell(check.Finding{
		Kind: check.OrphanDatabase, Severity: check.Warning, Resource: folder,
		Detail: detail,
		Repair: "move it to lost+found",
		Fix: func(ctx context.Context) error {
			_, err := p.orphanOp.Do(ctx, p.pipeline, repairer, "", orphanFolder{folder})
			return err
		},
	})
}

func (p *Projects) lookAt(project eider.Project) (*check.Finding, error) {
	_, err := os.Stat(p.folders.path(project.DBPath))
	if errors.Is(err, fs.ErrNotExist) {
		return p.missing(project), nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for the database of project %s: %w", project.ID, errors.Unwrap(err))
	}
	size, err := p.folders.databaseSize(project.DBPath)
	if err != nil || !far(size, project.SizeBytes) {
		return nil, err
	}
	return p.drifted(project, check.SizeDrift, fmt.Sprintf("the database has %d bytes, the register says %d", size, project.SizeBytes)), nil
}

// lookBeside looks for project.json, from which the project's row could be made again.
func (p *Projects) lookBeside(project eider.Project, deep bool) (*check.Finding, error) {
	path := p.folders.path(folderOf(project), sidecarFile)
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if there, err := p.folders.exists(project.DBPath); err != nil || !there {
			return nil, nil // the database is missing, which is another finding
		}
		return p.undescribed(project, "it is missing"), nil
	case err != nil:
		return nil, fmt.Errorf("look for %s of project %s: %w", sidecarFile, project.ID, errors.Unwrap(err))
	case !info.Mode().IsRegular() || info.Size() == 0:
		return p.undescribed(project, "it is no file, or empty"), nil
	case !deep:
		return nil, nil
	}
	text, err := os.ReadFile(path)
	var is sidecar
	if err == nil && json.Unmarshal(text, &is) == nil && is.UID == project.UID && is.ID == project.ID && is.CreatedAt.Equal(project.CreatedAt) {
		return nil, nil
	}
	return p.undescribed(project, "it cannot be read, or is not of this project"), nil
}

func (p *Projects) undescribed(project eider.Project, detail string) *check.Finding {
	return &check.Finding{
		Kind: check.ChecksumMismatch, Severity: check.Warning, Resource: filepath.Join(folderOf(project), sidecarFile),
		Detail: "what would make the row of project " + project.ID + " again does not do: " + detail,
		Repair: "write it again from the register; the project stays as it is",
		Fix: func(ctx context.Context) error {
			_, err := p.describeOp.Do(ctx, p.pipeline, repairer, project.ID, projectPath{project.ID})
			return err
		},
	}
}

// far reports whether two sizes differ by more than folding a log explains.
func far(a, b int64) bool {
	more, less := max(a, b), min(a, b)
	return more-less > sizeSlack && less < more/2
}

func (p *Projects) missing(project eider.Project) *check.Finding {
	return &check.Finding{
		Kind: check.MissingDatabase, Severity: check.Error, Resource: "project:" + project.ID,
		Detail: "the register has the project, and its database is not in its place",
		Repair: "put the project's folder back from a backup; a repair puts an empty database in its place and locks the project",
		Fix: func(ctx context.Context) error {
			_, err := p.replaceOp.Do(ctx, p.pipeline, repairer, project.ID, projectPath{project.ID})
			return err
		},
	}
}

func (p *Projects) drifted(project eider.Project, kind check.Kind, detail string) *check.Finding {
	return &check.Finding{
		Kind: kind, Severity: check.Warning, Resource: "project:" + project.ID, Detail: detail,
		Repair: "measure the database again",
		Fix: func(ctx context.Context) error {
			_, err := p.measureOp.Do(ctx, p.pipeline, repairer, project.ID, projectPath{project.ID})
			return err
		},
	}
}

// findDeep opens every database, in its worker, and compares what it holds with
// what the register says.
func (p *Projects) findDeep(ctx context.Context, all []eider.Project, tell func(check.Finding)) error {
	work := make(chan eider.Project)
	var wg sync.WaitGroup
	for range openAtATime {
		wg.Go(func() {
			for project := range work {
				look := func(now eider.Project) (*check.Finding, error) { return p.lookInside(ctx, now), nil }
				_ = p.confirm(ctx, project.UID, look, tell) // it ends with ctx, which is asked below
			}
		})
	}
	for _, project := range all {
		_, err := os.Stat(p.folders.path(project.DBPath))
		if ctx.Err() == nil && err == nil && keepsDatabase(project) {
			p.findInFolder(project, tell)
			work <- project
		}
	}
	close(work)
	wg.Wait()
	return ctx.Err()
}

// ours are the names in a project's folder.
var ours = map[string]bool{sidecarFile: true, sidecarFile + disk.NewSuffix: true, lockFile: true, "db": true, "in": true, "out": true}

// theirs begin the names of what a worker has in the folders that it works in.
var theirs = map[string][]string{"db": {filepath.Base(databaseFile), "tmp"}, "in": {"import"}, "out": {"export"}}

// findInFolder tells of what is in a project's folder beside what the server and the
// project's worker keep there.
func (p *Projects) findInFolder(project eider.Project, tell func(check.Finding)) {
	folder := folderOf(project)
	p.findStray(folder, func(name string) bool { return ours[name] }, tell)
	for sub, names := range theirs {
		p.findStray(filepath.Join(folder, sub), func(name string) bool {
			return slices.ContainsFunc(names, func(begin string) bool { return strings.HasPrefix(name, begin) })
		}, tell)
	}
}

func (p *Projects) findStray(folder string, isOurs func(string) bool, tell func(check.Finding)) {
	if info, err := os.Lstat(p.folders.path(folder)); err != nil || !info.IsDir() {
		return
	}
	entries, err := os.ReadDir(p.folders.path(folder))
	if err != nil {
		return // it has gone meanwhile
	}
	for _, e := range entries {
		if !isOurs(e.Name()) {
			p.tellOrphan(filepath.Join(folder, e.Name()), "it is none of the server's", tell)
		}
	}
}

func (p *Projects) lookInside(ctx context.Context, project eider.Project) *check.Finding {
	var m worker.Measured
	err := p.databases.Do(ctx, projectdb.Of(project).Patiently(), measureRequest, &m)
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil:
		if there, err := p.folders.exists(project.DBPath); err == nil && !there {
			return nil // missing is another finding
		}
		p.log.Error("a database cannot be opened", "project", project.ID, "error", err)
		return &check.Finding{
			Kind: check.ChecksumMismatch, Severity: check.Error, Resource: "project:" + project.ID,
			Detail: "the project's database is there and cannot be opened; the log says why",
			Repair: "put the project's folder back from a backup, or purge the project",
		}
	}
	held, err := p.usage.Of(ctx, p.pipeline.Store.View(), project.UID)
	if err != nil {
		p.log.Error("the usage of a project cannot be read", "project", project.ID, "error", err)
		return nil
	}
	counted := fmt.Sprintf("%d tables in %d buckets", m.Tables, m.Buckets)
	said := fmt.Sprintf("%d tables in %d buckets", project.TableCount, project.BucketCount)
	if held.Tables != project.TableCount {
		said += fmt.Sprintf(", and %d tables as usage", held.Tables)
	}
	if counted == said {
		return nil
	}
	return p.drifted(project, check.CounterDrift, "the database holds "+counted+", the register says "+said)
}

var measureRequest = wire.Request{Op: "measure", Args: []byte("{}")}

var repairer = eider.Actor{Type: eider.ActorSystem, ID: "repair", Name: "repair", Role: eider.Admin}
