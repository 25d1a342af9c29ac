package tables

import (
	"encoding/base64"
	"unicode/utf8"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/projectdb/gate"
	"github.com/eiderdb/eider/core/projectdb/worker"
)

// place is where a request is about: the parts of its path.
type place struct {
	ID     string `path:"id" json:"-" doc:"The project's id"`
	Branch string `path:"branch" json:"-" required:"false" doc:"default"`
}

// theBranch is the only one that there is.
const theBranch = "default"

func (p place) check() error {
	if p.Branch != "" && p.Branch != theBranch {
		return eider.Errorf(eider.BranchNotFound, "there is no such branch; there is default alone")
	}
	return nil
}

type bucketPlace struct {
	place
	Bucket string `path:"bucket" json:"-" doc:"Case does not count"`
}

func (p bucketPlace) check() error {
	if err := p.place.check(); err != nil {
		return err
	}
	return known(eider.BucketNotFound, p.Bucket)
}

func (p bucketPlace) target() worker.Target { return worker.Target{Bucket: p.Bucket} }

type tablePlace struct {
	bucketPlace
	Table string `path:"table" json:"-" doc:"Case does not count"`
}

func (p tablePlace) check() error {
	if err := p.bucketPlace.check(); err != nil {
		return err
	}
	return known(eider.TableNotFound, p.Table)
}

func (p tablePlace) target() worker.Target {
	return worker.Target{Bucket: p.Bucket, Table: p.Table}
}

type columnPlace struct {
	tablePlace
	Column string `path:"column" json:"-" doc:"Case does not count"`
}

func (p columnPlace) check() error {
	if err := p.tablePlace.check(); err != nil {
		return err
	}
	return known(eider.ColumnNotFound, p.Column)
}

func (p columnPlace) target() worker.Target {
	return worker.Target{Bucket: p.Bucket, Table: p.Table, Column: p.Column}
}

// claims lists what a change of the target keeps others from: the table, or the
// bucket with all that is in it.
func claims(uid string, t worker.Target) []metadata.Claim {
	bucket := "bucket:" + uid + "/" + gate.Fold(t.Bucket)
	all := []metadata.Claim{{Resource: operation.ProjectResource(uid)}, {Resource: bucket, Exclusive: t.Table == ""}}
	if t.Table != "" {
		all = append(all, metadata.Claim{Resource: "table:" + uid + "/" + gate.Fold(t.Bucket) + "/" + gate.Fold(t.Table), Exclusive: true})
	}
	return all
}

// page is what every list takes.
type page struct {
	Limit  int    `query:"limit" json:"-" minimum:"1" maximum:"1000" default:"100"`
	Offset int    `query:"offset" json:"-" minimum:"0" doc:"For small jumps; not together with cursor"`
	Cursor string `query:"cursor" json:"-" doc:"next_cursor of the page before"`
}

// of returns the page with one row more than was asked for, by which it is known
// whether there is another.
func (p page) of(bucket string) (worker.Page, error) {
	asked := worker.Page{Bucket: bucket, Limit: int64(p.Limit) + 1, Offset: int64(p.Offset)}
	if p.Cursor == "" {
		return asked, nil
	}
	if p.Offset > 0 {
		return asked, eider.Invalid("offset", "cannot be used together with cursor")
	}
	name, err := base64.RawURLEncoding.DecodeString(p.Cursor)
	if err != nil || len(name) == 0 || !utf8.Valid(name) {
		return asked, eider.Errorf(eider.InvalidCursor, "this cursor does not belong to this list")
	}
	asked.After = string(name)
	return asked, nil
}

func cursor(last string) string { return base64.RawURLEncoding.EncodeToString([]byte(last)) }
