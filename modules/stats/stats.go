// Package stats answers how much there is and how much happens.
//
// What the server holds comes from the totals of core/usage, which change with
// the things that they count. What happens is counted from the log, by hour and by
// day, by a follower: it keeps how far it came beside its counts, in one
// transaction, so that no crash counts a row twice or never. What the follower has
// not counted yet is counted while an answer is made. The package opens no
// project.
package stats

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/usage"
)

// Stats is the module.
type Stats struct {
	rows     *metadata.Table[row]
	store    *metadata.Store
	audit    *audit.Log
	usage    *usage.Book
	register core.ProjectRegister
	log      *slog.Logger
	begun    int64 // the head of the log at the start
	once     sync.Once
	stale    atomic.Int64 // what the cursor says that belongs to another log, 0 if it does not
}

// New returns the module.
func New() *Stats { return &Stats{rows: newTable()} }

var (
	_ core.Module      = (*Stats)(nil)
	_ core.Provisioner = (*Stats)(nil)
)

// Name returns "stats".
func (s *Stats) Name() string { return "stats" }

// Declare lists the operations; the handlers follow in this order.
func (s *Stats) Declare(r *core.Registry) error {
	r.Table(s.rows)
	r.Migrate(migrations()...)
	r.Follow(audit.Follower{Name: "stats", Handle: s.count})

	operation.Read(r.Operations, operation.Spec{
		Name: "get_stats", Route: "GET /stats", Role: eider.Admin, Target: "stats", Summary: "What the server holds and did today (UTC)",
	}, s.totals)
	operation.Read(r.Operations, operation.Spec{
		Name: "get_series", Route: "GET /stats/series", Role: eider.Admin, Target: "stats", Summary: "How much happened, hour by hour or day by day", Slow: true,
		Description: "Every step from from to to has a point, also where nothing happened. Steps begin at whole hours or days, in UTC.",
		Errors:      []eider.Code{eider.NotFound},
	}, s.series)
	operation.Read(r.Operations, operation.Spec{
		Name: "get_top", Route: "GET /stats/top", Role: eider.Admin, Target: "stats", Summary: "The projects that have most of something", Slow: true,
	}, s.top)
	return nil
}

// Provision takes what the handlers need of the kernel.
func (s *Stats) Provision(_ context.Context, k *core.Kernel) error {
	s.store, s.audit, s.usage, s.register, s.log = k.Pipeline.Store, k.Audit, k.Usage, k.Register, k.Log
	s.begun = k.Audit.Head().ID
	return nil
}
