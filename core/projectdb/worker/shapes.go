package worker

import (
	"encoding/json"
	"time"
)

// Bucket is a schema of the project's database.
type Bucket struct {
	Name             string  `json:"name"`
	TableCount       int64   `json:"table_count"`
	Description      *string `json:"description"`
	IsLinked         bool    `json:"is_linked"`
	SourceProjectID  *string `json:"source_project_id"`
	SourceBucketName *string `json:"source_bucket_name"`
}

// Table is a table of a bucket.
type Table struct {
	Name       string     `json:"name"`
	Bucket     string     `json:"bucket"`
	Columns    []Column   `json:"columns"`
	RowCount   int64      `json:"row_count"`
	SizeBytes  int64      `json:"size_bytes" doc:"Of the blocks that hold its rows, with an estimate of what is only in the log so far"`
	PrimaryKey []string   `json:"primary_key"`
	CreatedAt  *time.Time `json:"created_at" doc:"null where a query made the table"`
	Source     string     `json:"source" enum:"main"`
}

// Column is a column of a table. Default is an SQL expression, nil for none.
type Column struct {
	Name            string  `json:"name"`
	Type            string  `json:"type"`
	Nullable        bool    `json:"nullable"`
	OrdinalPosition int     `json:"ordinal_position" doc:"From 1"`
	Default         *string `json:"default,omitempty" doc:"An SQL expression"`
}

// Measured is what the database holds after a change.
type Measured struct {
	At      int64 `json:"at"` // orders the measurements of a project, across its workers
	Size    int64 `json:"size"`
	Tables  int64 `json:"tables"`
	Buckets int64 `json:"buckets"`
	Rows    int64 `json:"rows"` // counted, or where the tables are many an estimate: deleted ones may count for a while
}

// Changed is the result of every change. What concerns it alone is set.
type Changed struct {
	Measured *Measured `json:"measured,omitempty"` // nil: it could not be measured
	Bucket   *Bucket   `json:"bucket,omitempty"`
	Table    *Table    `json:"table,omitempty"`
	Deleted  int64     `json:"deleted,omitempty"`
	Rows     int64     `json:"rows,omitempty"` // of the table, afterwards
}

// Page asks for a part of a list.
type Page struct {
	Bucket string `json:"bucket,omitempty"`
	After  string `json:"after,omitempty"` // the last name of the page before
	Limit  int64  `json:"limit"`
	Offset int64  `json:"offset,omitempty"`
}

// Buckets and Tables are pages, in the order of names.
type (
	Buckets struct {
		Total   int64    `json:"total"`
		Buckets []Bucket `json:"buckets"`
	}
	Tables struct {
		Total  int64   `json:"total"`
		Tables []Table `json:"tables"`
	}
)

// Target names what a request is about, and what it wants with it.
type Target struct {
	Bucket      string   `json:"bucket"`
	Table       string   `json:"table,omitempty"`
	Column      string   `json:"column,omitempty"`
	Description *string  `json:"description,omitempty"` // of a bucket that is made
	Cascade     bool     `json:"cascade,omitempty"`
	Columns     []Column `json:"columns,omitempty"` // of a table that is made, or the one that is added
	Key         []string `json:"key,omitempty"`
	Alter       *Alter   `json:"alter,omitempty"`
	Where       string   `json:"where,omitempty"`
	Limit       int64    `json:"limit,omitempty"`
	Mode        string   `json:"mode,omitempty"`
}

// Alter is what changes of a column. Nil leaves a thing as it is.
type Alter struct {
	Name        *string `json:"name,omitempty"`
	Type        *string `json:"type,omitempty"`
	NotNull     *bool   `json:"not_null,omitempty"`
	Default     *string `json:"default,omitempty"`
	DropDefault bool    `json:"drop_default,omitempty"`
}

// Preview is the first rows of a table.
type Preview struct {
	Columns         []Column          `json:"columns"`
	Rows            []json.RawMessage `json:"rows" doc:"Objects by column. NaN and the infinities are strings; so is what JSON has no type for."`
	TotalRowCount   int64             `json:"total_row_count"`
	PreviewRowCount int64             `json:"preview_row_count"`
}
