package wasm

import (
	"context"
	"path"

	"github.com/eiderdb/eider/core/policy"
)

// Session asks a policy about events one after the other, without effect: what it
// keeps in kv is seen by the next, and forgotten with the session.
type Session struct {
	plugin *Plugin
	kv     *space
}

// Session returns a new one, whose kv is empty.
func (p *Plugin) Session() *Session { return &Session{p, newSpace("")} }

// Ask asks about an event, and says whether the policy was asked at all: the
// operations of its manifest and its expression may spare it.
func (s *Session) Ask(ctx context.Context, e *Event) (d policy.Decision, asked bool, err error) {
	if v := s.plugin.current.Load(); v != nil && !v.concerns(e) {
		return policy.Decision{}, false, nil
	}
	d, _, err = s.plugin.ask(ctx, e, s.kv)
	return d, true, err
}

func (v *version) concerns(e *Event) bool {
	found := len(v.manifest.Operations) == 0
	for _, glob := range v.manifest.Operations {
		if ok, err := path.Match(glob, e.Operation); ok && err == nil {
			found = true
		}
	}
	return found && v.filter.passes(&eventView{e: e})
}
