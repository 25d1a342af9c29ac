package plugins

import (
	"context"
	"sync"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/wasm"
)

// loads are what calls of this process have loaded that have no outcome yet, by call.
// What was loaded ends with the process: no other can say that a load was done.
type loads struct {
	mu   sync.Mutex
	done map[string]wasm.Loaded
}

func (l *loads) add(call string, what wasm.Loaded) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.done[call] = what
}

func (l *loads) of(call string) (wasm.Loaded, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	what, ok := l.done[call]
	return what, ok
}

func (l *loads) forget(call string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.done, call)
}

type loading struct {
	Name    string `json:"name"`
	IfMatch string `json:"if_match,omitempty"`
}

type reload struct {
	Name    string `path:"name" json:"-"`
	IfMatch string `header:"If-Match" json:"-" doc:"Load only if the ETag is still this one"`
}

func (p *Plugins) plan(ctx context.Context, tx *operation.Tx, in reload) (loading, error) {
	found, err := p.find(ctx, in.Name)
	if err != nil {
		return loading{}, err
	}
	_, err = p.match(ctx, tx, found, in.IfMatch)
	return loading(in), err
}

func claims(l loading) []metadata.Claim {
	return []metadata.Claim{{Resource: "plugin:" + l.Name}}
}

// load checks the ETag again: another load may have been under way when it was planned.
func (p *Plugins) load(ctx context.Context, l loading) error {
	found, err := p.find(ctx, l.Name)
	if err != nil {
		return err
	}
	what, err := found.ReloadIf(ctx, func() error { return operation.CheckMatch(l.IfMatch, p.shownAs(found)) })
	switch {
	case err == nil:
		p.loads.add(operation.From(ctx).ID, what)
		return nil
	case ctx.Err() != nil, eider.CodeOf(err) == eider.PreconditionFailed:
		return err
	}
	return eider.Errorf(eider.PluginRefused, "the plugin is refused: %v", err).Because(err)
}

// loaded is asked where the outcome was not recorded. After a crash the answer is no: what
// the start has loaded has a row of its own, and may be something else.
func (p *Plugins) loaded(ctx context.Context, _ loading) (bool, error) {
	_, ok := p.loads.of(operation.From(ctx).ID)
	return ok, nil
}

func (p *Plugins) forget(ctx context.Context, _ loading) error {
	p.loads.forget(operation.From(ctx).ID)
	return nil
}

func unchanged(context.Context, *operation.Tx, loading) error { return nil }

func (p *Plugins) shown(ctx context.Context, tx *operation.Tx, l loading) (Plugin, error) {
	found, err := p.find(ctx, l.Name)
	if err != nil {
		return Plugin{}, err
	}
	call := operation.From(ctx)
	what, _ := p.loads.of(call.ID)
	call.Detail("version", what.Manifest.Version)
	call.Detail("sha256", what.SHA256)
	tx.After(func() { p.loads.forget(call.ID) })
	return p.shownAs(found), nil
}
