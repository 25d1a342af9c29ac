// Package recovery finds what is not as the register says, and puts it right.
//
// It knows no module's rows: each module brings its own checks and the operations
// that repair what they find (core/check). What belongs to no module it checks
// itself: calls that are stuck, and the totals of the whole server.
package recovery

import (
	"context"
	"fmt"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/check"
	"github.com/eiderdb/eider/core/config"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/usage"
)

// Settings is the section "recovery".
type Settings struct {
	CheckRate      config.Size     `koanf:"check_rate" doc:"How many bytes a second a deep check reads at most; 0: no limit"`
	BackupDir      string          `koanf:"backup_dir" doc:"Where backups are kept; empty: backups in the data folder. On another file system storage files are copied, not linked"`
	BackupEvery    config.Duration `koanf:"backup_every" doc:"How often a backup is made; 0: only when asked for"`
	BackupKeep     int             `koanf:"backup_keep" doc:"How many whole backups are kept; older ones are removed"`
	BackupProjects bool            `koanf:"backup_projects" doc:"Scheduled backups hold the projects' databases"`
	BackupFiles    bool            `koanf:"backup_files" doc:"Scheduled backups hold the storage files"`
}

// Validate refuses what would keep nothing, or back up without end.
func (s *Settings) Validate() error {
	if every := time.Duration(s.BackupEvery); every != 0 && every < time.Minute {
		return fmt.Errorf("backup_every must be 0 or at least 1m")
	}
	if s.BackupKeep < 1 {
		return fmt.Errorf("backup_keep must be at least 1")
	}
	return nil
}

// Recovery is the module.
type Recovery struct {
	settings  Settings
	kernel    *core.Kernel
	abandonOp *operation.Handle[stuckCall, operation.Nothing]
	totalOp   *operation.Handle[miscount, operation.Nothing]
	backups   *metadata.Table[Backup]
	backupOp  *operation.Handle[makeBackup, Backup]
	expireOp  *operation.Handle[backupPath, operation.Nothing]
	listOp    *operation.Handle[foundBackups, operation.Nothing]
	newest    newest

	// Of the job of backups alone: whether it has looked for those that a restored register
	// does not know, and of which one the register was restored.
	looked       bool
	restoredFrom string
}

// New returns the module.
func New() *Recovery {
	return &Recovery{
		settings: Settings{CheckRate: 256 << 20, BackupEvery: config.Duration(24 * time.Hour), BackupKeep: 7, BackupProjects: true, BackupFiles: true},
		backups:  newBackups(),
	}
}

var (
	_ core.Module      = (*Recovery)(nil)
	_ core.Provisioner = (*Recovery)(nil)
)

// Name returns "recovery".
func (r *Recovery) Name() string { return "recovery" }

// Provision takes the kernel.
func (r *Recovery) Provision(_ context.Context, k *core.Kernel) error {
	r.kernel = k
	return r.observe(k.Meter)
}

// Declare lists the operations; the handlers follow in this order.
func (r *Recovery) Declare(reg *core.Registry) error {
	reg.Settings.Section("recovery", &r.settings)
	reg.Check(check.Source{Name: "operations", Find: r.findStuck})
	reg.Check(check.Source{Name: "usage", Find: r.findMiscounted})
	reg.Check(check.Source{Name: "archives", Find: r.findArchives})
	reg.Check(check.Source{Name: "backups", Rebuild: r.rebuild})
	operation.Read(reg.Operations, operation.Spec{
		Name: "check_consistency", Route: "GET /health/consistency", Role: eider.Admin, Target: "server",
		Summary: "Compare the register with what is there", Slow: true,
		Description: "Looks whether databases and files are in their places, with their sizes, and whether anything lies there that has no row. " +
			"deep also opens every database and reads every file again, at recovery.check_rate.",
	}, r.check)
	operation.Effect(reg.Operations, operation.Spec{
		Name: "repair", Route: "POST /admin/repair", Role: eider.Admin, Target: "server", Slow: true, Async: true, Frees: true,
		Summary: "Put right what a check finds",
		Description: "A dry run, which is what is done unless dry_run is false, only tells. Every repair is an operation of its own, named repair. " +
			"What nobody has is moved to lost+found, and nothing is deleted.",
	}, operation.Steps[repair, *repairPlan, Repaired]{
		Intent: planRepair, Claims: func(*repairPlan) []metadata.Claim { return []metadata.Claim{{Resource: "repair", Exclusive: true}} },
		Effect: r.repair, Applied: func(context.Context, *repairPlan) (bool, error) { return false, nil }, // the next one goes on
		Undo: func(context.Context, *repairPlan) error { return nil }, Outcome: r.repaired,
		Revert: func(context.Context, *operation.Tx, *repairPlan) error { return nil },
	})
	r.abandonOp = operation.Effect(reg.Operations, operation.Spec{
		Name: "repair", ID: "repair_stuck_operation", Route: operation.Internal + " /repair/stuck_operation", Role: eider.Admin, Target: "operation", Frees: true,
	}, operation.Steps[stuckCall, stuckCall, operation.Nothing]{
		Intent: planAbandon, Claims: func(stuckCall) []metadata.Claim { return nil },
		Effect: r.abandon, Applied: func(context.Context, stuckCall) (bool, error) { return true, nil },
		Undo:    func(context.Context, stuckCall) error { return nil },
		Outcome: tellAbandoned, Revert: func(context.Context, *operation.Tx, stuckCall) error { return nil },
	})
	r.totalOp = operation.Write(reg.Operations, operation.Spec{
		Name: "repair", ID: "repair_totals", Route: operation.Internal + " /repair/totals", Role: eider.Admin, Target: "server", Frees: true,
	}, r.addToTotals)
	r.declareBackups(reg)
	r.declareList(reg)
	return nil
}

type checkConsistency struct {
	Deep bool `query:"deep" json:"-" doc:"Also open every database and compare the checksums of all files"`
}

func (r *Recovery) scope(deep bool) check.Scope {
	return check.Scope{Deep: deep, Pace: check.NewPace(int64(r.settings.CheckRate))}
}

func (r *Recovery) check(ctx context.Context, _ *operation.View, in checkConsistency) (check.Report, error) {
	return r.find(ctx, in.Deep)
}

// findStuck finds the calls that were left unfinished and could be settled neither
// way. Why is for the log: the reason may name paths.
func (r *Recovery) findStuck(_ context.Context, _ check.Scope, tell func(check.Finding)) error {
	why := r.kernel.Pipeline.Stuck()
	for _, row := range r.kernel.Audit.Unfinished() {
		if why[row.CallID] == nil {
			continue
		}
		tell(check.Finding{
			Kind: check.StuckOperation, Severity: check.Error, Resource: "operation:" + row.CallID,
			Detail: fmt.Sprintf("%s of %s %s was left unfinished and could be neither finished nor undone so far; its resource stays reserved",
				row.Operation, row.ResourceType, row.ResourceID),
			Repair: "remove what the log names as the reason, and the server settles it by itself; a repair gives the call up",
			Fix: func(ctx context.Context) error {
				_, err := r.abandonOp.Do(ctx, r.kernel.Pipeline, repairer, "", stuckCall{row.CallID})
				return err
			},
		})
	}
	return nil
}

func (r *Recovery) findMiscounted(ctx context.Context, _ check.Scope, tell func(check.Finding)) error {
	drift, err := r.kernel.Usage.Drift(ctx, r.kernel.View)
	if err != nil || drift == (usage.Amounts{}) {
		return err
	}
	tell(check.Finding{
		Kind: check.CounterDrift, Severity: check.Warning, Resource: "server",
		Detail: fmt.Sprintf("the totals of the projects and those of the server differ by %d projects, %d files, %d bytes, %d tables and %d rows",
			drift.Projects, drift.Files, drift.Bytes, drift.Tables, drift.Rows),
		Repair: "add the difference to the server's totals",
		Fix: func(ctx context.Context) error {
			_, err := r.totalOp.Do(ctx, r.kernel.Pipeline, repairer, "", miscount{drift})
			return err
		},
	})
	return nil
}

var repairer = eider.Actor{Type: eider.ActorSystem, ID: "repair", Name: "repair", Role: eider.Admin}
