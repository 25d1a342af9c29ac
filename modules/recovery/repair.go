package recovery

import (
	"context"
	"slices"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/check"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/usage"
)

type repair struct {
	DryRun *bool    `json:"dry_run,omitempty" doc:"Only tell what would be done: true if absent"`
	Kinds  []string `json:"kinds,omitempty" doc:"What to repair: all kinds of finding if absent"`
	Deep   bool     `json:"deep,omitempty" doc:"Repair what a deep check finds"`
}

// repairPlan is a repair under way.
type repairPlan struct {
	DryRun bool     `json:"dry_run"`
	Kinds  []string `json:"kinds,omitempty"`
	Deep   bool     `json:"deep,omitempty"`

	result Repaired
}

// Repaired is what a repair did, or would do.
type Repaired struct {
	DryRun    bool      `json:"dry_run"`
	CheckedAt time.Time `json:"checked_at"`
	Repaired  int       `json:"repaired"`
	Failed    int       `json:"failed"`
	Findings  []Handled `json:"findings"`
}

// Handled is a finding and what became of it.
type Handled struct {
	check.Finding
	Status string `json:"status" enum:"repairable,manual,repaired,failed" doc:"repairable: a repair that is no dry run would do it; manual: only people can"`
	Error  string `json:"error,omitempty"`
}

func planRepair(ctx context.Context, _ *operation.Tx, in repair) (*repairPlan, error) {
	for _, kind := range in.Kinds {
		if !slices.Contains(check.Kinds, check.Kind(kind)) {
			return nil, eider.Invalid("kinds", "must be kinds of finding")
		}
	}
	plan := &repairPlan{DryRun: in.DryRun == nil || *in.DryRun, Kinds: in.Kinds, Deep: in.Deep}
	operation.From(ctx).Detail("dry_run", plan.DryRun)
	return plan, nil
}

// repair looks, and repairs one finding after another. One that fails keeps no
// other from being repaired.
func (r *Recovery) repair(ctx context.Context, plan *repairPlan) error {
	report, err := r.find(ctx, plan.Deep)
	if err != nil {
		return err
	}
	plan.result = Repaired{DryRun: plan.DryRun, CheckedAt: report.CheckedAt, Findings: []Handled{}}
	for i, finding := range report.Findings {
		if len(plan.Kinds) > 0 && !slices.Contains(plan.Kinds, string(finding.Kind)) {
			continue
		}
		h := r.handle(ctx, finding, plan.DryRun)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		switch h.Status {
		case "repaired":
			plan.result.Repaired++
		case "failed":
			plan.result.Failed++
		}
		plan.result.Findings = append(plan.result.Findings, h)
		operation.From(ctx).Progress(float64(i+1)/float64(len(report.Findings)), int64(i+1))
	}
	return nil
}

func (r *Recovery) handle(ctx context.Context, f check.Finding, dryRun bool) Handled {
	switch {
	case f.Fix == nil:
		return Handled{Finding: f, Status: "manual"}
	case dryRun:
		return Handled{Finding: f, Status: "repairable"}
	}
	if err := f.Fix(ctx); err != nil {
		r.kernel.Log.ErrorContext(ctx, "a repair failed", "kind", f.Kind, "resource", f.Resource, "error", err)
		return Handled{Finding: f, Status: "failed", Error: operation.Public(err).Message}
	}
	return Handled{Finding: f, Status: "repaired"}
}

func (r *Recovery) repaired(ctx context.Context, _ *operation.Tx, plan *repairPlan) (Repaired, error) {
	call := operation.From(ctx)
	call.Detail("dry_run", plan.DryRun)
	call.Detail("findings", len(plan.result.Findings))
	call.Detail("repaired", plan.result.Repaired)
	call.Detail("failed", plan.result.Failed)
	return plan.result, nil
}

// stuckCall is a call that can be neither finished nor undone.
type stuckCall struct {
	Call string `json:"call"`
}

func planAbandon(ctx context.Context, _ *operation.Tx, in stuckCall) (stuckCall, error) {
	operation.From(ctx).Resource(in.Call)
	return in, nil
}

func (r *Recovery) abandon(ctx context.Context, plan stuckCall) error {
	return r.kernel.Pipeline.Abandon(ctx, plan.Call, operation.From(ctx).Actor)
}

func tellAbandoned(ctx context.Context, _ *operation.Tx, _ stuckCall) (operation.Nothing, error) {
	operation.From(ctx).Detail("finding", check.StuckOperation)
	return operation.Nothing{}, nil
}

// miscount is what the server's totals lack.
type miscount struct {
	Missing usage.Amounts `json:"missing"`
}

func (r *Recovery) addToTotals(ctx context.Context, tx *operation.Tx, in miscount) (operation.Nothing, error) {
	operation.From(ctx).Detail("finding", check.CounterDrift)
	operation.From(ctx).Detail("added", in.Missing)
	return operation.Nothing{}, r.kernel.Usage.Add(ctx, tx, "", in.Missing)
}
