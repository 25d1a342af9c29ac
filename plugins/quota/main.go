// Command quota is a policy: what a project and the server may hold.
//
// It counts nothing. The usage that it is told holds the call itself and those
// that were admitted before it, so of two uploads that race for the last bytes one
// passes.
package main

import (
	"errors"
	"strconv"

	plugin "github.com/eiderdb/eider/sdk/go"
)

var _ = plugin.Policy(configure)

func main() {}

// limits are numbers of things; a negative one is none.
type limits struct{ projects, bytes, files, tables, rows int64 }

type quota struct {
	project, server limits
	overrides       bool
	warnPercent     int64
}

func configure(c plugin.JSON) (func(*plugin.Event) plugin.Decision, error) {
	none := limits{-1, -1, -1, -1, -1}
	q := &quota{project: none.with(c), server: none.with(c.Get("server")), overrides: true}
	if c.Get("overrides").Exists() {
		q.overrides = c.Get("overrides").Bool()
	}
	q.warnPercent, _ = c.Get("warn_percent").Int()
	if q.warnPercent < 0 || q.warnPercent > 100 {
		return nil, errors.New("warn_percent must be 0 to 100")
	}
	return q.decide, nil
}

// with returns the limits with those that an object names in their place.
func (l limits) with(object plugin.JSON) limits {
	for _, one := range []struct {
		name string
		to   *int64
	}{{"projects", &l.projects}, {"bytes", &l.bytes}, {"files", &l.files}, {"tables", &l.tables}, {"rows", &l.rows}} {
		if n, ok := object.Get(one.name).Int(); ok {
			*one.to = n
		}
	}
	return l
}

func (q *quota) decide(e *plugin.Event) plugin.Decision {
	if e.Operation == "update_project" && q.overrides {
		return q.settings(e)
	}
	grows := e.Usage.Adds != plugin.Amounts{} || growsUnknown(e)
	if !grows {
		return plugin.Allow()
	}
	answer := plugin.Allow()
	if e.Project != nil {
		own := q.project
		if q.overrides {
			own = own.with(e.Project.Settings.Get("quota"))
		}
		answer = q.hold("project "+e.Project.ID, e, e.Usage.Project, own)
	}
	if answer.IsDeny() {
		return answer
	}
	if server := q.hold("the server", e, e.Usage.Server, q.server); server != plugin.Allow() {
		return server
	}
	return answer
}

// growsUnknown reports whether the call may add what is known only when it has
// run. It may pass a limit by itself, and the next one is refused.
func growsUnknown(e *plugin.Event) bool {
	return e.Operation == "import_table" || e.Operation == "query" && e.Input.Get("mode").String() == "write"
}

// hold compares what would be held with the limits, for whatever the call adds.
func (q *quota) hold(who string, e *plugin.Event, held plugin.Amounts, l limits) plugin.Decision {
	unknown := growsUnknown(e)
	answer := plugin.Allow()
	for _, one := range []struct {
		what              string
		held, adds, limit int64
	}{
		{"projects", held.Projects, e.Usage.Adds.Projects, l.projects},
		{"bytes", held.Bytes, e.Usage.Adds.Bytes, l.bytes},
		{"files", held.Files, e.Usage.Adds.Files, l.files},
		{"tables", held.Tables, e.Usage.Adds.Tables, l.tables},
		{"rows", held.Rows, e.Usage.Adds.Rows, l.rows},
	} {
		if one.limit < 0 || one.adds <= 0 && !unknown {
			continue
		}
		text := who + " would hold " + strconv.FormatInt(one.held, 10) + " of " + strconv.FormatInt(one.limit, 10) + " " + one.what
		switch {
		case one.held > one.limit:
			return plugin.DenyQuota(text)
		case q.warnPercent > 0 && one.held > one.limit/100*q.warnPercent+one.limit%100*q.warnPercent/100:
			answer = plugin.Warn(text)
		}
	}
	return answer
}

// settings keeps a project's own admins from raising what the operator granted:
// the quota in a project's settings is for admins of the server.
func (q *quota) settings(e *plugin.Event) plugin.Decision {
	if e.Actor.Role == "admin" {
		return plugin.Allow()
	}
	settings := e.Input.Get("settings")
	if !settings.Exists() {
		return plugin.Allow()
	}
	none := limits{-1, -1, -1, -1, -1}
	before, after := plugin.JSON(""), settings.Get("quota")
	if e.Project != nil {
		before = e.Project.Settings.Get("quota")
	}
	if none.with(before) != none.with(after) || before.Exists() != after.Exists() {
		return plugin.Deny("only an admin of the server changes settings.quota")
	}
	return plugin.Allow()
}
