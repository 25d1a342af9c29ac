package wasm

import (
	"context"
	"path"

	"github.com/eiderdb/eider/core/policy"
)

// Session asks a policy about events one after the other, without effect: what it
// keeps in kv is seen by the next, and forgotten with the session. It has a guest of
// its own, so that nothing it asks can cost the calls of others one. A session is used
// by one goroutine, and ended.
type Session struct {
	plugin *Plugin
	kv     *space

	of      *version // what the guest is of
	guest   *guest   // nil: none was made yet, or it has failed
	release func()   // lets the version end
}

// Session returns a new one, whose kv is empty.
func (p *Plugin) Session() *Session { return &Session{plugin: p, kv: newSpace("")} }

// Try asks about one event without any effect: what the guest keeps in kv is
// forgotten, nothing is counted, and no guest is taken from the plugin's calls. One
// is tried at a time.
func (p *Plugin) Try(ctx context.Context, e *Event) (policy.Decision, error) {
	if v := p.current.Load(); v != nil && v.manifest.Kind != Policy {
		return policy.Decision{}, errSink
	}
	select {
	case p.trying <- struct{}{}:
		defer func() { <-p.trying }()
	case <-ctx.Done():
		return policy.Decision{}, ctx.Err()
	}
	s := p.Session()
	defer s.End()
	return s.decide(ctx, e)
}

// Ask asks about an event, and says whether the policy was asked at all: the
// operations of its manifest and its expression may spare it.
func (s *Session) Ask(ctx context.Context, e *Event) (d policy.Decision, asked bool, err error) {
	if v := s.plugin.current.Load(); v != nil && !v.concerns(e) {
		return policy.Decision{}, false, nil
	}
	d, err = s.decide(ctx, e)
	return d, true, err
}

// Ready makes the session's guest where there is none, and lets it rest where it is
// tired, which calls do by themselves: who measures a call does not mean that.
func (s *Session) Ready(ctx context.Context) error { return s.ready(ctx) }

// End lets go of the session's guest.
func (s *Session) End() {
	if s.guest != nil {
		_ = s.guest.close() // nobody can use it any more
		s.guest = nil
	}
	if s.release != nil {
		s.release()
		s.release, s.of = nil, nil
	}
}

func (s *Session) decide(ctx context.Context, e *Event) (policy.Decision, error) {
	if err := s.ready(ctx); err != nil {
		return policy.Decision{}, err
	}
	d, sound, err := s.guest.decide(ctx, e)
	if !sound || s.guest.usedUp() {
		_ = s.guest.close()
		s.guest = nil
	}
	return d, err
}

// ready has a guest of the version that is loaded.
func (s *Session) ready(ctx context.Context) error {
	for v := s.plugin.current.Load(); s.of == nil || s.of != v; v = s.plugin.current.Load() {
		s.End()
		if v == nil {
			return errNotLoaded
		}
		release, ok := v.pool.hold()
		if ok {
			s.of, s.release = v, release
			break
		}
	}
	if s.guest == nil {
		var err error
		if s.guest, err = newGuest(ctx, s.of, s.kv); err != nil {
			return err
		}
	}
	if s.guest.tired() {
		return s.guest.relax()
	}
	return nil
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
