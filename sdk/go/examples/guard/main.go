// Command guard is the example of a policy: protected projects, a prefix for
// ids, a quota of bytes and a rate of uploads. The same policy is beside the SDKs
// for Rust and AssemblyScript, and one list of cases holds all three to it.
package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	plugin "github.com/eiderdb/eider/sdk/go"
)

var _ = plugin.Policy(configure)

func main() {}

// guard is what the operator wrote; it is the same for every guest.
type guard struct {
	protect []string // ids of projects that are never dropped
	prefix  string   // what the id of a new project begins with
	bytes   int64    // of a project, unless its settings say quota.bytes
	rate    int64    // uploads a minute into a project
	explain bool     // warn of every call with all that is told of it
}

func configure(c plugin.JSON) (func(*plugin.Event) plugin.Decision, error) {
	g := &guard{protect: c.Get("protect").Strings(), prefix: c.Get("prefix").String(), explain: c.Get("explain").Bool()}
	g.bytes, _ = c.Get("bytes").Int()
	g.rate, _ = c.Get("rate").Int()
	if g.bytes < 0 {
		return nil, errors.New("bytes is less than nothing")
	}
	return g.decide, nil
}

func (g *guard) decide(e *plugin.Event) plugin.Decision {
	switch {
	case g.explain:
		return plugin.Warn(explain(e))
	case e.Operation == "drop_project" && slices.Contains(g.protect, e.Resource.ID):
		plugin.Log(plugin.Info, e.Actor.Name+" tried to drop "+e.Resource.ID)
		return plugin.Deny(e.Resource.ID + " is protected")
	case e.Operation == "create_project":
		return g.newProject(e.Input.Get("id").String())
	case e.Operation == "upload_file" && e.Project != nil:
		if d := g.quota(e); d != plugin.Allow() {
			return d
		}
		return g.slowly(e)
	}
	return plugin.Allow()
}

func (g *guard) newProject(id string) plugin.Decision {
	if strings.HasPrefix(id, g.prefix) {
		return plugin.Allow()
	}
	return plugin.Deny(fmt.Sprintf("%s does not begin with %s", id, g.prefix))
}

// quota needs no count of its own: usage holds this upload already, and those
// that were admitted before it.
func (g *guard) quota(e *plugin.Event) plugin.Decision {
	limit, used := g.bytes, e.Usage.Project.Bytes
	if own, ok := e.Project.Settings.Get("quota", "bytes").Int(); ok {
		limit = own
	}
	switch {
	case limit == 0 || e.Usage.Adds.Bytes == 0:
		return plugin.Allow()
	case used > limit:
		return plugin.DenyQuota(fmt.Sprintf("%d of %d bytes", used, limit))
	case used > limit-limit/5:
		return plugin.Warn(fmt.Sprintf("%d of %d bytes are used", used, limit))
	}
	return plugin.Allow()
}

// slowly counts in kv, which all guests share, a number for each minute.
func (g *guard) slowly(e *plugin.Event) plugin.Decision {
	const minute = 60_000
	if g.rate == 0 {
		return plugin.Allow()
	}
	n, err := plugin.KVAdd(fmt.Sprintf("%s/%d", e.Project.UID, e.TimeMS/minute), 1, minute)
	if err != nil {
		return plugin.Deny("uploads cannot be counted: " + err.Error())
	}
	if n > g.rate {
		return plugin.DenyRate(fmt.Sprintf("%d uploads a minute", g.rate), minute-e.TimeMS%minute)
	}
	return plugin.Allow()
}

func explain(e *plugin.Event) string {
	project := "no project"
	if p := e.Project; p != nil {
		note := p.Settings.Get("note")
		project = fmt.Sprintf("%s %s %s %s %s", p.ID, p.UID, p.Name, p.Status, note.String())
	}
	a := e.Usage
	count, _ := e.Input.Get("count").Int()
	again := ""
	if e.Extends {
		again = " again"
	}
	return fmt.Sprintf("%s at %d by %s %s %s %s %s on %s %s of %s; %v %v %v; %s %s %s %s; %s %d %s%s", e.Operation, e.TimeMS,
		e.Actor.Type, e.Actor.ID, e.Actor.Name, e.Actor.Role, e.Actor.ProjectID, e.Resource.Type, e.Resource.ID, project,
		amounts(a.Project), amounts(a.Server), amounts(a.Adds), e.Request.ID, e.Request.SourceIP, e.Request.Method, e.Request.Route,
		e.Input.Get("text").String(), count, strings.Join(e.Input.Get("deep", "list").Strings(), ","), again)
}

func amounts(a plugin.Amounts) string {
	return fmt.Sprintf("%d/%d/%d/%d/%d", a.Projects, a.Bytes, a.Files, a.Tables, a.Rows)
}
