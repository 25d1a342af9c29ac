package wasm

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
)

// errLeft ends a load that nobody waits for any more.
var errLeft = errors.New("nobody waits for the load any more")

// attempt is one load of a plugin. Its caller may leave until something is put in place.
type attempt struct {
	put, left bool // guarded by the plugin's mu
}

// Load reads the plugin anew and, if it proves itself, puts it in the place of the
// version before; calls that run there end there. If it does not, the version
// before stays. If ctx ends, so does the load for its caller: what it is at, such as
// machine code of one function or a guest that spends the fuel of its start, is left
// behind and comes to nothing.
func (p *Plugin) Load(ctx context.Context) error {
	_, err := p.load(ctx, nil)
	return err
}

// Reload is Load for a plugin that runs: what it is asked about may have changed.
func (p *Plugin) Reload(ctx context.Context) error {
	_, err := p.ReloadIf(ctx, nil)
	return err
}

// ReloadIf is Reload unless same, which is asked when no other load of the plugin runs,
// returns an error. It returns what was loaded.
func (p *Plugin) ReloadIf(ctx context.Context, same func() error) (Loaded, error) {
	v, err := p.load(ctx, same)
	err = errors.Join(err, p.host.refresh())
	p.host.changed(p.item.Name)
	if err != nil {
		return Loaded{}, err
	}
	return v.loaded(), nil
}

type result struct {
	v   *version
	err error
}

func (p *Plugin) load(ctx context.Context, same func() error) (*version, error) {
	a, ended := &attempt{}, make(chan result, 1)
	go func() {
		v, err := p.attempt(ctx, a, same)
		ended <- result{v, err}
	}()
	select {
	case r := <-ended:
		return r.v, r.err
	case <-ctx.Done():
	}
	p.mu.Lock()
	a.left = !a.put
	p.mu.Unlock()
	if a.left {
		return nil, fmt.Errorf("load plugin %s: %w", p.item.Name, ctx.Err())
	}
	r := <-ended
	return r.v, r.err
}

func (p *Plugin) attempt(ctx context.Context, a *attempt, same func() error) (v *version, err error) {
	defer func() {
		if r := recover(); r != nil { // it is not the caller's goroutine, who would catch that
			p.host.Log.Error("a load panicked", "plugin", p.item.Name, "panic", r, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic while it is loaded: %v", r)
		}
	}()
	select {
	case p.loading <- struct{}{}:
		defer func() { <-p.loading }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if same != nil {
		if err := same(); err != nil {
			return nil, err
		}
	}
	if v, err = p.host.load(ctx, p.item); err != nil {
		p.refuse(ctx, err)
		return nil, err
	}
	old, err := p.put(v, a)
	if err != nil {
		return nil, errors.Join(err, v.end(context.WithoutCancel(ctx)))
	}
	p.host.Log.Info("a plugin is loaded", "plugin", p.item.Name, "version", v.manifest.Version, "sha256", v.sha256)
	if old != nil {
		return v, old.end(context.WithoutCancel(ctx))
	}
	return v, nil
}

// refuse notes why a load failed, and what the manifest says of what could not be
// loaded. That a caller has left says nothing of the plugin.
func (p *Plugin) refuse(ctx context.Context, why error) {
	if ctx.Err() != nil {
		return
	}
	kind, wanted := p.host.claimed(p.item)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.kind == "" {
		p.kind = kind
	}
	p.wanted, p.failed = wanted, why
}

// put puts a version into the place of the one before, which it returns.
func (p *Plugin) put(v *version, a *attempt) (old *version, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return nil, errEnded
	case a.left:
		return nil, errLeft
	case p.kind != "" && p.kind != v.manifest.Kind:
		p.failed = fmt.Errorf("it is a %s now and was a %s: give it another name, or start the server anew", v.manifest.Kind, p.kind)
		return nil, p.failed
	}
	p.kind, p.failed, a.put = v.manifest.Kind, nil, true
	return p.current.Swap(v), nil
}
