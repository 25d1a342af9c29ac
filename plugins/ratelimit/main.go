// Command ratelimit is a policy: token buckets by key, project, address or for all.
//
// A bucket is a time in kv, that at which it will be full again (the form of the token
// bucket that is called GCRA), and the latest that was seen: nothing has to run to fill it, and it
// is exact across guests and restarts, because it is swapped in one step.
package main

import (
	"errors"
	"strconv"
	"strings"

	plugin "github.com/eiderdb/eider/sdk/go"
)

var _ = plugin.Policy(configure)

func main() {}

// tries bounds the loop around a bucket that others change: the host allows 64
// calls of kv for each call.
const tries = 12

// rule is a bucket for each of whoever it is by.
type rule struct {
	name       string
	operations []string // globs
	by         string
	interval   int64 // microseconds in which one token comes
	burst      int64
	rate       string // for the reason
}

type limiter struct {
	rules  []rule
	exempt []string // roles
}

func configure(c plugin.JSON) (func(*plugin.Event) plugin.Decision, error) {
	l := &limiter{exempt: c.Get("exempt_roles").Strings()}
	var wrong error
	c.Get("rules").Each(func(_ string, one plugin.JSON) bool {
		r, err := ruleOf(one, len(l.rules))
		l.rules, wrong = append(l.rules, r), err
		return err == nil
	})
	if wrong == nil && len(l.rules) == 0 {
		wrong = errors.New("there is no rule")
	}
	return l.decide, wrong
}

func ruleOf(c plugin.JSON, i int) (rule, error) {
	r := rule{name: c.Get("name").String(), operations: c.Get("operations").Strings(), by: c.Get("by").String()}
	if r.name == "" {
		r.name = strconv.Itoa(i + 1)
	}
	if r.by == "" {
		r.by = "key"
	}
	count, _ := c.Get("rate").Int()
	per := c.Get("per").String()
	if per == "" {
		per = "second"
	}
	units := map[string]int64{"second": 1e6, "minute": 60e6, "hour": 3600e6, "day": 86400e6}
	if count <= 0 || units[per] == 0 || count > units[per] {
		return r, errors.New("rule " + r.name + ": rate must be above 0, and per second, minute, hour or day")
	}
	r.interval = units[per] / count
	r.rate = strconv.FormatInt(count, 10) + " a " + per
	r.burst, _ = c.Get("burst").Int()
	if r.burst <= 0 {
		r.burst = count
	}
	return r, nil
}

func (l *limiter) decide(e *plugin.Event) plugin.Decision {
	for _, role := range l.exempt {
		if role == e.Actor.Role {
			return plugin.Allow()
		}
	}
	for i := range l.rules {
		r := &l.rules[i]
		if bucket, ok := r.bucket(e); ok {
			if d := r.take(bucket, e.TimeMS*1000); d.IsDeny() {
				return d
			}
		}
	}
	return plugin.Allow()
}

// bucket returns whose bucket the call takes from, false if the rule does not
// concern it.
func (r *rule) bucket(e *plugin.Event) (string, bool) {
	if len(r.operations) > 0 && !matches(r.operations, e.Operation) {
		return "", false
	}
	who := ""
	switch r.by {
	case "key":
		who = owner(e.Actor)
	case "project":
		if e.Project == nil {
			return "", false
		}
		who = e.Project.UID // the next project of the id begins with a full bucket
	case "address":
		who = e.Request.SourceIP
	}
	return r.name + "/" + who, true
}

// owner returns whose key it is: a signed URL is its key's, however many there are.
func owner(a plugin.Actor) string {
	switch {
	case a.Type != "signed_url":
		return a.Type + "/" + a.ID
	case a.ID == "":
		return "root/"
	}
	return "key/" + a.ID
}

// take takes a token, or says when there will be one.
func (r *rule) take(bucket string, at int64) plugin.Decision {
	for range tries {
		old, err := plugin.KVGet(bucket)
		if err != nil && err != plugin.ErrNotFound {
			return plugin.Deny("the rate cannot be counted: " + err.Error())
		}
		full, now := parse(string(old), at)
		full = max(full, now) + r.interval
		if wait := full - now - r.burst*r.interval; wait > 0 {
			return plugin.DenyRate("more than "+r.rate, (wait+999)/1000)
		}
		if err != nil {
			old = nil // there must still be none
		}
		life := (full-now)/1000 + 1
		swapped, err := plugin.KVSwap(bucket, old, []byte(strconv.FormatInt(full, 10)+" "+strconv.FormatInt(now, 10)), life)
		if err != nil {
			return plugin.Deny("the rate cannot be counted: " + err.Error())
		}
		if swapped {
			return plugin.Allow()
		}
	}
	return plugin.DenyRate("more calls than can be counted", 1000)
}

// parse reads a bucket: when it will be full, and what time it is. Calls overtake each
// other: one that began before another and is asked about after it does not turn the
// clock back, or it would find fewer tokens than there are.
func parse(bucket string, at int64) (full, now int64) {
	first, latest, _ := strings.Cut(bucket, " ")
	full, _ = strconv.ParseInt(first, 10, 64)
	now, _ = strconv.ParseInt(latest, 10, 64)
	return full, max(now, at)
}

func matches(globs []string, name string) bool {
	for _, g := range globs {
		if match(g, name) {
			return true
		}
	}
	return false
}

// match is a glob in which * stands for any text.
func match(glob, name string) bool {
	for i := 0; i < len(glob); i++ {
		if glob[i] == '*' {
			for skip := 0; skip <= len(name)-i; skip++ {
				if match(glob[i+1:], name[i+skip:]) {
					return true
				}
			}
			return false
		}
		if i >= len(name) || name[i] != glob[i] {
			return false
		}
	}
	return len(glob) == len(name)
}
