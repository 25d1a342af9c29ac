package tables

import (
	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/projectdb/worker"
)

func (f *Tables) declareRows(r *core.Registry) {
	declareChange[deleteRows](f, r, "delete_rows", route(operation.Spec{
		Name: "delete_rows", Role: eider.ProjectWrite, Target: "table", Frees: true, Summary: "Delete the rows for which a condition holds",
		Description: "The condition is what stands behind WHERE. true deletes all rows.",
		Errors:      notThere(eider.InvalidWhereClause, eider.OutOfMemory, eider.PreconditionFailed),
	}, "DELETE", inTable+"/rows"), func(c *worker.Changed) deletedRows { return deletedRows{c.Deleted, c.Rows} })
}

type deleteRows struct {
	tablePlace
	match
	WhereClause string `json:"where_clause" required:"true" maxLength:"1048576" doc:"Such as amount < 0"`
}

func (in deleteRows) ask() (worker.Target, error) {
	target := in.target()
	target.Where = in.WhereClause
	return target, nil
}

type deletedRows struct {
	DeletedRows    int64 `json:"deleted_rows"`
	TableRowsAfter int64 `json:"table_rows_after"`
}
