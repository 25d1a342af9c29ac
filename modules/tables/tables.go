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
	"path/filepath"
	"sync"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/blob"
	"github.com/eiderdb/eider/core/disk"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/projectdb"
	"github.com/eiderdb/eider/core/projectdb/worker"
)

// Tables is the module.
type Tables struct {
	databases *projectdb.Supervisor
	dir       string // the data folder
	files     *disk.FS
	blobs     *blob.Local
	stored    core.FileRegister
	log       *slog.Logger

	mu     sync.Mutex
	newest map[string]worker.Measured // by the project's uid
}

// New returns the module.
func New() *Tables { return &Tables{newest: map[string]worker.Measured{}} }

var (
	_ core.Module      = (*Tables)(nil)
	_ core.Provisioner = (*Tables)(nil)
)

// Name returns "tables".
func (f *Tables) Name() string { return "tables" }

// Declare lists the operations; the handlers follow in this order.
func (f *Tables) Declare(r *core.Registry) error {
	operation.On(r.Operations, func(_ context.Context, tx *operation.Tx, e eider.PurgedProject) error {
		tx.After(func() { f.forget(e.Project.UID) })
		return nil
	})
	f.declareBuckets(r)
	f.declareTables(r)
	f.declareColumns(r)
	f.declareRows(r)
	f.declareQuery(r)
	f.declareImport(r)
	f.declareExport(r)
	return nil
}

// filesDir is the folder of storage files, below the data folder.
const filesDir = "files"

// Provision takes what the handlers need of the kernel.
func (f *Tables) Provision(_ context.Context, k *core.Kernel) error {
	f.databases, f.dir, f.files, f.log = k.Databases, k.Dir, k.Files, k.Log
	f.stored = k.Stored
	f.blobs = blob.NewLocal(filepath.Join(k.Dir, filesDir), k.Files)
	return nil
}

// route gives the operation its path below the buckets, of the project and of its
// branch.
func route(spec operation.Spec, method, rest string) operation.Spec {
	spec.Route = method + " /projects/{id}/buckets" + rest
	spec.Also = []string{method + " /projects/{id}/branches/{branch}/buckets" + rest}
	return spec
}

// The paths below the buckets.
const (
	inBucket = "/{bucket}"
	tables   = inBucket + "/tables"
	inTable  = tables + "/{table}"
)
