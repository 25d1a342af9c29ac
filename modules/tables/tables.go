// Package tables answers for what a project's database holds: buckets, which are
// schemas of DuckDB, tables, their columns, keys and rows.
//
// Every change is one transaction in the project's file, in the project's worker,
// with the id of the call written beside it: whatever becomes of worker or
// server, the change can be told from one that did not happen. The package knows
// rules and names; core/projectdb/worker speaks SQL.
package tables

import (
	"context"
	"log/slog"

	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/blob"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/projectdb"
)

// Tables is the module.
type Tables struct {
	databases *projectdb.Supervisor
	pipeline  *operation.Pipeline
	dir       string // the data folder
	blobs     *blob.Local
	log       *slog.Logger
}

// New returns the module.
func New() *Tables { return &Tables{} }

var (
	_ core.Module      = (*Tables)(nil)
	_ core.Provisioner = (*Tables)(nil)
)

// Name returns "tables".
func (f *Tables) Name() string { return "tables" }

// Declare lists the operations; the handlers follow in this order.
func (f *Tables) Declare(r *core.Registry) error {
	f.declareQuery(r)
	f.declareImport(r)
	f.declareExport(r)
	return nil
}

// Provision takes what the handlers need of the kernel.
func (f *Tables) Provision(_ context.Context, k *core.Kernel) error {
	f.databases, f.pipeline, f.dir, f.log = k.Databases, k.Pipeline, k.Dir, k.Log
	return nil
}
