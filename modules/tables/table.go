package tables

import (
	"context"
	"fmt"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/projectdb/gate"
	"github.com/eiderdb/eider/core/projectdb/worker"
	"github.com/eiderdb/eider/core/usage"
)

// notThere is what every route of a table may answer.
func notThere(more ...eider.Code) []eider.Code {
	return append(more, eider.BucketNotFound, eider.TableNotFound, eider.BranchNotFound, eider.TooManyQueries, eider.ProjectRestarted)
}

func (f *Tables) declareTables(r *core.Registry) {
	declareChange[createTable](f, r, "create_table", route(operation.Spec{
		Name: "create_table", Role: eider.ProjectWrite, Target: "table", Status: 201, Summary: "Create a table",
		Description: "Types are those of DuckDB; a default is an SQL expression of constants, such as 0, 'new' or now().",
		Reserve:     usage.Amounts{Tables: 1},
		Errors:      notThere(eider.TableExists, eider.InvalidPrimaryKey, eider.InvalidColumnType, eider.QuotaExceeded),
	}, "POST", tables), showTable)
	operation.Read(r.Operations, route(operation.Spec{
		Name: "list_tables", Role: eider.ProjectRead, Target: "table", Slow: true, Summary: "List a bucket's tables by name",
		Errors: notThere(eider.InvalidCursor),
	}, "GET", tables), f.listTables)
	operation.Read(r.Operations, route(operation.Spec{
		Name: "get_table", Role: eider.ProjectRead, Target: "table", Slow: true, Tagged: true, Summary: "Get a table",
		Errors: notThere(),
	}, "GET", inTable), f.getTable)
	declareChange[dropTable](f, r, "drop_table", route(operation.Spec{
		Name: "drop_table", Role: eider.ProjectWrite, Target: "table", Frees: true, Summary: "Drop a table",
		Errors: notThere(eider.PreconditionFailed),
	}, "DELETE", inTable), nothing)
	operation.Read(r.Operations, route(operation.Spec{
		Name: "preview_table", Role: eider.ProjectRead, Target: "table", Slow: true, Summary: "See a table's first rows",
		Errors: notThere(),
	}, "GET", inTable+"/preview"), f.preview)
	operation.Read(r.Operations, route(operation.Spec{
		Name: "profile_table", Role: eider.ProjectRead, Target: "table", Slow: true, Summary: "Describe a table's values",
		Description: "basic: counts, bounds, means and quantiles of each column. distribution: frequent values and deciles besides. " +
			"quality: counts and bounds, with what the values may suffer from. full: all, and how columns of numbers go together.",
		Errors: notThere(eider.QueryFailed, eider.OutOfMemory),
	}, "POST", inTable+"/profile"), f.profile)
}

type newColumn struct {
	Name     string  `json:"name"`
	Type     string  `json:"type" maxLength:"65536" doc:"Such as INTEGER, DECIMAL(10,2) or VARCHAR[]"`
	Nullable *bool   `json:"nullable,omitempty" doc:"true if absent"`
	Default  *string `json:"default,omitempty" maxLength:"65536" doc:"An SQL expression"`
}

func (c newColumn) column(field string) (worker.Column, error) {
	column := worker.Column{Name: c.Name, Type: c.Type, Nullable: c.Nullable == nil || *c.Nullable, Default: c.Default}
	return column, checkName(field, c.Name)
}

type createTable struct {
	bucketPlace
	Name       string      `json:"name" required:"true"`
	Columns    []newColumn `json:"columns" required:"true" minItems:"1" maxItems:"4096"`
	PrimaryKey []string    `json:"primary_key,omitempty"`
}

func (in createTable) ask() (worker.Target, error) {
	target := in.target()
	target.Table, target.Key = in.Name, in.PrimaryKey
	if err := checkName("name", in.Name); err != nil {
		return target, err
	}
	seen := map[string]bool{}
	for i, c := range in.Columns {
		field := fmt.Sprintf("columns[%d].name", i)
		column, err := c.column(field)
		if err != nil {
			return target, err
		}
		if seen[gate.Fold(c.Name)] {
			return target, eider.Invalid(field, "is the name of another column; case does not count")
		}
		seen[gate.Fold(c.Name)] = true
		target.Columns = append(target.Columns, column)
	}
	return target, nil
}

type listTables struct {
	bucketPlace
	page
}

type tablePage struct {
	Tables     []worker.Table `json:"tables"`
	Total      int64          `json:"total"`
	NextCursor string         `json:"next_cursor,omitempty"`
}

func (f *Tables) listTables(ctx context.Context, _ *operation.View, in listTables) (tablePage, error) {
	if err := in.check(); err != nil {
		return tablePage{}, err
	}
	asked, err := in.of(in.Bucket)
	if err != nil {
		return tablePage{}, err
	}
	found := worker.Tables{}
	if err := f.ask(ctx, "list_tables", asked, &found); err != nil {
		return tablePage{}, err
	}
	list := tablePage{Tables: found.Tables, Total: found.Total}
	if len(list.Tables) > in.Limit {
		list.Tables = list.Tables[:in.Limit]
		list.NextCursor = cursor(list.Tables[in.Limit-1].Name)
	}
	return list, nil
}

// about checks a read of a table and names it for the log.
func (p tablePlace) about(ctx context.Context) error {
	operation.From(ctx).Resource(p.Bucket + "/" + p.Table)
	return p.check()
}

func (f *Tables) getTable(ctx context.Context, _ *operation.View, in tablePlace) (found worker.Table, err error) {
	if err := in.about(ctx); err != nil {
		return found, err
	}
	return found, f.ask(ctx, "get_table", in.target(), &found)
}

type dropTable struct {
	tablePlace
	IfMatch string `header:"If-Match" json:"-" doc:"Drop only if the ETag is still this one"`
}

func (in dropTable) ifMatch() string             { return in.IfMatch }
func (in dropTable) ask() (worker.Target, error) { return in.target(), nil }

type previewTable struct {
	tablePlace
	Limit int `query:"limit" json:"-" minimum:"1" maximum:"10000" default:"100"`
}

func (f *Tables) preview(ctx context.Context, _ *operation.View, in previewTable) (found worker.Preview, err error) {
	if err := in.about(ctx); err != nil {
		return found, err
	}
	target := in.target()
	target.Limit = int64(in.Limit)
	return found, f.ask(ctx, "preview", target, &found)
}

type profileTable struct {
	tablePlace
	Mode string `query:"mode" json:"-" enum:"basic,full,distribution,quality" default:"basic"`
}

func (f *Tables) profile(ctx context.Context, _ *operation.View, in profileTable) (found worker.Profile, err error) {
	if err := in.about(ctx); err != nil {
		return found, err
	}
	target := in.target()
	target.Mode = in.Mode
	return found, f.ask(ctx, "profile", target, &found)
}
