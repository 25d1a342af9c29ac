package tables

import (
	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/projectdb/worker"
	"github.com/eiderdb/eider/core/schema"
)

func (f *Tables) declareColumns(r *core.Registry) {
	alter := func(id, summary string, status int, errors ...eider.Code) operation.Spec {
		return operation.Spec{
			Name: "alter_table", ID: id, Role: eider.ProjectWrite, Target: "table", Summary: summary, Status: status,
			Errors: notThere(append(errors, eider.PreconditionFailed)...),
		}
	}
	const columns, key = inTable + "/columns", inTable + "/primary-key"
	declareChange[addColumn](f, r, "add_column", route(alter("add_column", "Add a column", 201,
		eider.ColumnExists, eider.InvalidColumnType), "POST", columns), showTable)
	declareChange[alterColumn](f, r, "alter_column", route(alter("alter_column", "Change a column's name, type, default or NOT NULL", 200,
		eider.NoChangesSpecified, eider.ColumnNotFound, eider.ColumnExists, eider.InvalidColumnType, eider.ColumnInPrimaryKey), "PUT", columns+"/{column}"), showTable)
	declareChange[dropColumn](f, r, "drop_column", route(alter("drop_column", "Drop a column", 0,
		eider.ColumnNotFound, eider.CannotDropLastColumn, eider.ColumnInPrimaryKey), "DELETE", columns+"/{column}"), nothing)
	declareChange[addKey](f, r, "add_key", route(alter("add_primary_key", "Give a table a primary key", 201,
		eider.PrimaryKeyExists, eider.InvalidPrimaryKey), "POST", key), showTable)
	declareChange[dropKey](f, r, "drop_key", route(alter("drop_primary_key", "Take a table's primary key away", 0,
		eider.NoPrimaryKey), "DELETE", key), nothing)
}

// match is the condition of a change of a table.
type match struct {
	IfMatch string `header:"If-Match" json:"-" doc:"Change only if the ETag of the table is still this one"`
}

func (m match) ifMatch() string { return m.IfMatch }

type addColumn struct {
	tablePlace
	match
	Name     string  `json:"name" required:"true"`
	Type     string  `json:"type" required:"true" maxLength:"65536"`
	Nullable *bool   `json:"nullable,omitempty" doc:"true if absent; false needs a default where the table has rows"`
	Default  *string `json:"default,omitempty" maxLength:"65536" doc:"An SQL expression; rows that are there get it too"`
}

func (in addColumn) ask() (worker.Target, error) {
	target := in.target()
	column, err := newColumn{in.Name, in.Type, in.Nullable, in.Default}.column("name")
	target.Columns = []worker.Column{column}
	return target, err
}

type alterColumn struct {
	columnPlace
	match
	NewName    *string                 `json:"new_name,omitempty"`
	NewType    *string                 `json:"new_type,omitempty" maxLength:"65536"`
	SetNotNull *bool                   `json:"set_not_null,omitempty" doc:"false allows NULL again"`
	SetDefault schema.Optional[string] `json:"set_default,omitempty" doc:"An SQL expression; null takes the default away"`
}

func (in alterColumn) ask() (worker.Target, error) {
	target := in.target()
	if in.NewName == nil && in.NewType == nil && in.SetNotNull == nil && !in.SetDefault.Given {
		return target, eider.Errorf(eider.NoChangesSpecified, "nothing is to be changed")
	}
	if in.NewName != nil {
		if err := checkName("new_name", *in.NewName); err != nil {
			return target, err
		}
	}
	target.Alter = &worker.Alter{
		Name: in.NewName, Type: in.NewType, NotNull: in.SetNotNull, Default: in.SetDefault.Value,
		DropDefault: in.SetDefault.Given && in.SetDefault.Value == nil,
	}
	return target, nil
}

type dropColumn struct {
	columnPlace
	match
}

func (in dropColumn) ask() (worker.Target, error) { return in.target(), nil }

type addKey struct {
	tablePlace
	match
	Columns []string `json:"columns" required:"true"`
}

func (in addKey) ask() (worker.Target, error) {
	target := in.target()
	target.Key = in.Columns
	if len(in.Columns) == 0 {
		return target, eider.Errorf(eider.InvalidPrimaryKey, "a primary key has at least one column")
	}
	return target, nil
}

type dropKey struct {
	tablePlace
	match
}

func (in dropKey) ask() (worker.Target, error) { return in.target(), nil }
