package recovery

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/backup"
	"github.com/eiderdb/eider/core/disk"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/operation"
)

// Backup is a row of the table of backups, and what the API shows of it.
type Backup struct {
	ID         string     `json:"id"`
	Status     string     `json:"status" enum:"running,complete,damaged,missing" doc:"missing: its folder is not in its place"`
	CreatedAt  time.Time  `json:"created_at"`
	Projects   bool       `json:"projects" doc:"Holds the projects' databases"`
	Files      bool       `json:"files" doc:"Holds the storage files"`
	LogID      int64      `json:"log_id" doc:"The newest row of the log that it holds"`
	Entries    int64      `json:"entries"`
	SizeBytes  int64      `json:"size_bytes" doc:"What is linked and not copied counts, too"`
	VerifiedAt *time.Time `json:"verified_at"`
	// LeftOut is told when it is made and when it is verified.
	LeftOut []string `json:"left_out,omitempty" doc:"Of a backup that was just made: storage files and archives of the log that are missing or damaged, and so not in it"`
}

// The states of a backup.
const (
	running  = "running"
	complete = "complete"
	damaged  = "damaged"
	gone     = "missing"
)

const byNewest = "newest"

func newBackups() *metadata.Table[Backup] {
	return metadata.NewTable(metadata.Def[Backup]{
		Name: "backups",
		Columns: []metadata.Column{
			{Name: "id", Kind: metadata.Text}, {Name: "status", Kind: metadata.Text}, {Name: "created_at", Kind: metadata.Time},
			{Name: "projects", Kind: metadata.Bool}, {Name: "files", Kind: metadata.Bool}, {Name: "log_id", Kind: metadata.Int},
			{Name: "entries", Kind: metadata.Int}, {Name: "size_bytes", Kind: metadata.Int}, {Name: "verified_at", Kind: metadata.Time},
		},
		Key: func(b *Backup) string { return b.ID },
		Encode: func(b *Backup) []any {
			return []any{b.ID, b.Status, b.CreatedAt, b.Projects, b.Files, b.LogID, b.Entries, b.SizeBytes, metadata.NullTime(metadata.OrZero(b.VerifiedAt))}
		},
		Decode: func(scan func(...any) error) (b Backup, err error) {
			err = scan(&b.ID, &b.Status, &b.CreatedAt, &b.Projects, &b.Files, &b.LogID, &b.Entries, &b.SizeBytes, &b.VerifiedAt)
			b.CreatedAt = b.CreatedAt.UTC()
			if b.VerifiedAt != nil {
				at := b.VerifiedAt.UTC()
				b.VerifiedAt = &at
			}
			return b, err
		},
		Missing: eider.NotFound, Noun: "backup", Hot: true,
		Orders: map[string]func(a, b *Backup) int{byNewest: func(a, b *Backup) int { return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID)) }},
	})
}

func migrations() []metadata.Migration {
	return []metadata.Migration{{Owner: "recovery", Number: 1, SQL: []string{`
		CREATE TABLE backups (
			id TEXT PRIMARY KEY, status TEXT NOT NULL, created_at TIMESTAMPTZ NOT NULL, projects BOOLEAN NOT NULL, files BOOLEAN NOT NULL,
			log_id BIGINT NOT NULL, entries BIGINT NOT NULL, size_bytes BIGINT NOT NULL, verified_at TIMESTAMPTZ)`}}}
}

func claimBackups(*backupPlan) []metadata.Claim {
	return []metadata.Claim{{Resource: "backups", Exclusive: true}}
}

func (r *Recovery) declareBackups(reg *core.Registry) {
	reg.Table(r.backups)
	reg.Migrate(migrations()...)
	reg.Schedule(core.Job{Name: "backups", Every: func() time.Duration { return tendEvery }, Run: r.tendBackups})
	r.backupOp = operation.Effect(reg.Operations, operation.Spec{
		Name: "backup", Route: "POST /admin/backups", Role: eider.Admin, Target: "backup", Status: 201, Slow: true, Async: true,
		Summary: "Make a backup while the server goes on",
		Description: "The metadata is copied first, then the projects' databases, each as it is at that moment, then the storage files, as links " +
			"where the file system has them. No one moment is promised for all of it: a restore checks and repairs what differs. Root and signing keys are not in it.",
	}, operation.Steps[makeBackup, *backupPlan, Backup]{
		Intent: r.planBackup, Claims: claimBackups, Effect: r.backUp, Applied: r.isBackedUp, Undo: r.dropUnfinished,
		Outcome: r.keepBackup, Revert: r.forgetBackup,
	})
	operation.Read(reg.Operations, operation.Spec{
		Name: "list_backups", Route: "GET /admin/backups", Role: eider.Admin, Target: "backup", Summary: "List backups, newest first",
	}, r.listBackups)
	operation.Effect(reg.Operations, operation.Spec{
		Name: "verify_backup", Route: "POST /admin/backups/{backup}/verify", Role: eider.Admin, Target: "backup", Slow: true, Async: true, Frees: true,
		Summary:     "Read a backup again, open its metadata and verify the log in it",
		Description: "Every file is compared with the checksum in the backup's list.", Errors: []eider.Code{eider.NotFound, eider.StorageUnavailable},
	}, operation.Steps[backupPath, *backupPlan, Verified]{
		Intent: r.planVerify, Claims: claimBackups, Effect: r.verify, Applied: func(context.Context, *backupPlan) (bool, error) { return false, nil },
		Undo: func(context.Context, *backupPlan) error { return nil }, Outcome: r.keepVerified,
		Revert: func(context.Context, *operation.Tx, *backupPlan) error { return nil },
	})
	r.expireOp = operation.Effect(reg.Operations, operation.Spec{
		Name: "expire_backup", Route: operation.Internal + " /admin/backups/expire", Role: eider.Admin, Target: "backup", Frees: true,
	}, operation.Steps[backupPath, *backupPlan, operation.Nothing]{
		Intent: r.planExpire, Claims: claimBackups, Effect: r.removeBackup,
		Applied: func(ctx context.Context, plan *backupPlan) (bool, error) { return true, r.removeBackup(ctx, plan) },
		Undo:    r.removeBackup,
		Outcome: func(ctx context.Context, tx *operation.Tx, plan *backupPlan) (operation.Nothing, error) {
			return operation.Nothing{}, r.forgetBackup(ctx, tx, plan)
		}, Revert: r.forgetBackup,
	})
}

type makeBackup struct {
	Projects *bool `json:"projects,omitempty" doc:"Back the projects' databases up, too: true if absent"`
	Files    *bool `json:"files,omitempty" doc:"Back the storage files up, too: true if absent"`
}

type backupPath struct {
	Backup string `path:"backup" json:"backup" doc:"The backup's id"`
}

// backupPlan is a backup that is made, verified or removed.
type backupPlan struct {
	ID        string    `json:"id"`
	CreatedAt time.Time `json:"created_at"`
	Projects  bool      `json:"projects"`
	Files     bool      `json:"files"`

	manifest backup.Manifest
	wrong    []string
	damaged  []string // backups of which a copy was found to be damaged or missing
	renamed  bool     // this process gave the backup its name
}

func (r *Recovery) planBackup(ctx context.Context, tx *operation.Tx, in makeBackup) (*backupPlan, error) {
	call := operation.From(ctx)
	at := time.Now().UTC().Truncate(time.Microsecond)
	// The time for people, the end of the call's id to be unique. It sorts by time.
	plan := &backupPlan{
		ID: at.Format("20060102T150405.000") + "-" + call.ID[len(call.ID)-8:], CreatedAt: at,
		Projects: in.Projects == nil || *in.Projects, Files: in.Files == nil || *in.Files,
	}
	call.Resource(plan.ID)
	return plan, r.backups.Insert(tx, Backup{ID: plan.ID, Status: running, CreatedAt: at, Projects: plan.Projects, Files: plan.Files})
}

// folder is where backups are kept.
func (r *Recovery) folder() string {
	if r.settings.BackupDir != "" {
		return r.settings.BackupDir
	}
	return filepath.Join(r.kernel.Dir, "backups")
}

func (r *Recovery) final(id string) string { return filepath.Join(r.folder(), id) }
func (r *Recovery) fresh(id string) string { return filepath.Join(r.folder(), freshPrefix+id) }

// freshPrefix begins the name of a backup that is being made.
const freshPrefix = ".new-"

func (r *Recovery) backUp(ctx context.Context, plan *backupPlan) error {
	maker := &maker{recovery: r, plan: plan}
	return refused(maker.run(ctx))
}

// refused tells what a full or read-only target means.
func refused(err error) error {
	switch {
	case errors.As(err, new(*eider.Error)) || err == nil:
		return err
	case disk.IsFull(err), errors.Is(err, metadata.ErrFull):
		return eider.Errorf(eider.StorageFull, "there is no room for the backup; those that are there are whole").Because(err)
	case disk.IsReadOnly(err), errors.Is(err, os.ErrNotExist):
		return eider.Errorf(eider.StorageUnavailable, "the folder of backups cannot be written").Because(err)
	}
	return err
}

// isBackedUp: a backup that has its name is whole. One without a manifest that can be
// read is none, though it was one once: it is not waited for.
func (r *Recovery) isBackedUp(_ context.Context, plan *backupPlan) (bool, error) {
	m, err := backup.Read(r.final(plan.ID))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, backup.ErrDamaged) {
		return false, nil
	}
	plan.manifest = m
	return err == nil, err
}

// dropUnfinished removes what was written. A target that cannot be written any more
// keeps it, and the next backup removes it. What has the final name goes only where this
// process gave it: a backup's metadata holds the call that made it, unfinished, so that
// after a restore it is settled once more, beside the folder from which people restored.
func (r *Recovery) dropUnfinished(_ context.Context, plan *backupPlan) error {
	dirs := []string{r.fresh(plan.ID)}
	if plan.renamed {
		dirs = append(dirs, r.final(plan.ID))
	} else if _, err := os.Lstat(r.final(plan.ID)); err == nil {
		r.kernel.Log.Warn("a folder of backups has no manifest that can be read; it is left as it is", "backup", plan.ID)
	}
	for _, dir := range dirs {
		err := r.kernel.Files.RemoveAll(dir)
		if disk.IsReadOnly(err) {
			r.kernel.Log.Error("an unfinished backup cannot be removed", "backup", plan.ID, "error", err)
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *Recovery) keepBackup(ctx context.Context, tx *operation.Tx, plan *backupPlan) (Backup, error) {
	m := plan.manifest
	at := time.Now().UTC().Truncate(time.Microsecond)
	row := Backup{
		ID: plan.ID, Status: complete, CreatedAt: plan.CreatedAt, Projects: plan.Projects, Files: plan.Files,
		LogID: m.LogID, Entries: int64(m.Entries), SizeBytes: m.SizeBytes, VerifiedAt: &at,
	}
	call := operation.From(ctx)
	call.Detail("log_id", m.LogID)
	call.Detail("size_bytes", m.SizeBytes)
	call.Detail("entries", m.Entries)
	if len(m.LeftOut) > 0 {
		call.Detail("left_out", m.LeftOut[:min(len(m.LeftOut), 100)])
	}
	var spoiled []string
	for _, id := range plan.damaged {
		one, err := r.backups.Get(ctx, tx, id)
		if err != nil || one.Status != complete {
			continue
		}
		one.Status = damaged
		spoiled = append(spoiled, id)
		if err := r.backups.Put(ctx, tx, one); err != nil {
			return row, err
		}
	}
	if len(spoiled) > 0 {
		call.Detail("damaged", spoiled)
	}
	if err := r.backups.Put(ctx, tx, row); err != nil {
		return row, err
	}
	row.LeftOut = m.LeftOut
	return row, nil
}

func (r *Recovery) forgetBackup(ctx context.Context, tx *operation.Tx, plan *backupPlan) error {
	return r.backups.Delete(ctx, tx, plan.ID)
}

type backupList struct {
	Backups []Backup `json:"backups"`
	Total   int      `json:"total"`
}

func (r *Recovery) listBackups(context.Context, *operation.View, nothing) (backupList, error) {
	out := backupList{Backups: []Backup{}}
	r.backups.Scan(metadata.Range[Backup]{Order: byNewest, Descending: true}, func(b *Backup) bool {
		one := *b
		if _, err := os.Stat(r.final(b.ID)); errors.Is(err, os.ErrNotExist) && b.Status != running {
			one.Status = gone
		}
		out.Backups = append(out.Backups, one)
		return true
	})
	out.Total = len(out.Backups)
	return out, nil
}

type nothing struct{}

func (r *Recovery) removeBackup(_ context.Context, plan *backupPlan) error {
	if err := r.kernel.Files.RemoveAll(r.final(plan.ID)); err != nil {
		return refused(err)
	}
	return refused(r.kernel.Files.SyncDir(r.folder()))
}
