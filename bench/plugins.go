package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/policy"
	"github.com/eiderdb/eider/core/telemetry"
	"github.com/eiderdb/eider/core/usage"
	"github.com/eiderdb/eider/core/wasm"
)

// benchPlugins measures policies: in this process one call, chains, starts and
// reloads, beside a webhook that decides the same; and what they add to a request.
func benchPlugins(ctx context.Context, b *bench) error {
	p := &pluginBench{bench: b, built: map[string]string{}}
	var err error
	if p.cache, err = b.fresh("plugin-cache"); err != nil {
		return err
	}
	for _, language := range []string{"go", "rust", "assemblyscript"} {
		if language != "go" && b.tiny() {
			continue
		}
		if err := p.build(ctx, language); err != nil {
			if language == "go" {
				return err
			}
			b.table.note(fmt.Sprintf("Not measured: a policy in %s, which cannot be built here: %v", language, err))
		}
	}
	b.table.note("The policy is the example guard of the SDKs: no-op is a call that it is not interested in, quota one that it compares " +
		"with a limit which the project's settings may replace. A call is with its span, its metrics and the wait for a guest.")
	for _, part := range []func(context.Context) error{p.calls, p.pools, p.chain, p.filter, p.webhook, p.others, p.starts, p.reloads, p.requests} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

// tiny reports that nothing is to be quoted.
func (s scale) tiny() bool { return s.lasts < 100*time.Millisecond }

type pluginBench struct {
	*bench
	built       map[string]string // folder, by language
	order       []string
	cache       string
	noop, quota time.Duration // p50 of the guest in Go
}

// build compiles the example in the language where it lies, as an author would.
func (p *pluginBench) build(ctx context.Context, language string) error {
	root, err := repository(ctx)
	if err != nil {
		return err
	}
	dir := filepath.Join(root, "sdk", language, "examples", "guard")
	if text, err := exec.CommandContext(ctx, p.eider, "plugin", "build", dir).CombinedOutput(); err != nil {
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		return fmt.Errorf("build %s: %w: %s", dir, err, lines[len(lines)-1])
	}
	p.built[language], p.order = dir, append(p.order, language)
	return nil
}

// host starts a host with items of the policy in the language.
func (p *pluginBench) host(ctx context.Context, cache string, items ...wasm.Item) (*wasm.Host, *policy.Chain, error) {
	t := telemetry.Discard()
	chain, err := policy.NewChain(nil, t.Log)
	if err != nil {
		return nil, nil, err
	}
	h, err := wasm.New(wasm.Options{Dir: p.dir, Cache: cache, Log: t.Log, Tracer: t.Tracer, Meter: t.Meter, KV: wasm.NewKV(), Chain: chain}, items)
	if err != nil {
		return nil, nil, err
	}
	if err := h.Start(ctx); err != nil {
		return nil, nil, errors.Join(err, h.Close(ctx))
	}
	for _, i := range items {
		if err := h.Plugin(i.Name).Refused(); err != nil {
			return nil, nil, errors.Join(err, h.Close(ctx))
		}
	}
	return h, chain, nil
}

func (p *pluginBench) item(name, language string, guests int) wasm.Item {
	return wasm.Item{Name: name, Path: p.built[language], Guests: guests, Config: map[string]any{"bytes": 1_000_000}}
}

var (
	uninterested = policy.Question{
		Operation: "query", Actor: eider.Actor{Type: "key", ID: "k1", Name: "loader"}, ResourceType: "project",
		Project: &eider.Project{ID: "sales", UID: "0193", Name: "Sales", Status: eider.ProjectActive}, RequestID: "r", SourceIP: "10.0.0.7",
		Method: "POST", Route: "/projects/{id}/query", Input: []byte(`{"sql":"SELECT 1"}`),
	}
	uploading = policy.Question{
		Operation: "upload_file", Actor: eider.Actor{Type: "key", ID: "k1", Name: "loader"}, ResourceType: "file",
		Project:   &eider.Project{ID: "sales", UID: "0193", Name: "Sales", Status: eider.ProjectActive, Settings: []byte(`{"quota":{"bytes":1000}}`)},
		RequestID: "r", SourceIP: "10.0.0.7", Method: "POST", Route: "/projects/{id}/files", Input: []byte(`{"name":"a.csv"}`),
		ProjectUsage: usage.Amounts{Bytes: 500, Files: 3}, ServerUsage: usage.Amounts{Bytes: 90_000}, Adds: usage.Amounts{Bytes: 100, Files: 1},
	}
)

// asking returns sessions that ask about the question, and fail if it is denied.
func asking(ctx context.Context, ask func(context.Context, *policy.Question) error, q policy.Question) func(int) (session, error) {
	return func(int) (session, error) {
		return session{turn: func() (bool, error) { return true, ask(ctx, &q) }}, nil
	}
}

func decide(p *wasm.Plugin) func(context.Context, *policy.Question) error {
	return func(ctx context.Context, q *policy.Question) error {
		if d, err := p.Decide(ctx, q); err != nil || d.Deny {
			return fmt.Errorf("the policy says %+v: %w", d, err)
		}
		return nil
	}
}

func decideAll(c *policy.Chain) func(context.Context, *policy.Question) error {
	return func(ctx context.Context, q *policy.Question) error {
		if o := c.Ask(ctx, q); o.Denial != nil {
			return o.Denial
		}
		return nil
	}
}

// calls measures one call in each language.
func (p *pluginBench) calls(ctx context.Context) error {
	for _, language := range p.order {
		h, _, err := p.host(ctx, p.cache, p.item("x", language, 1))
		if err != nil {
			return err
		}
		for _, c := range []struct {
			what string
			q    policy.Question
		}{{"no-op", uninterested}, {"quota", uploading}} {
			got, err := p.measure(ctx, 1, asking(ctx, decide(h.Plugin("x")), c.q))
			if err != nil {
				return errors.Join(err, h.Close(ctx))
			}
			r := got.row(fmt.Sprintf("one call, %s, %s", language, c.what))
			r.Bar = "p50 < 10 us"
			p.table.add(r)
			if language == "go" {
				p.noop, p.quota = p.quota, got.p50() // no-op comes first
			}
		}
		if err := h.Close(ctx); err != nil {
			return err
		}
	}
	return nil
}

// pools measures eight callers that share guests.
func (p *pluginBench) pools(ctx context.Context) error {
	for _, guests := range []int{1, 2, 8} {
		h, _, err := p.host(ctx, p.cache, p.item("x", "go", guests))
		if err != nil {
			return err
		}
		got, err := p.measure(ctx, 8, asking(ctx, decide(h.Plugin("x")), uploading))
		if err = errors.Join(err, h.Close(ctx)); err != nil {
			return err
		}
		p.table.add(got.row(fmt.Sprintf("quota, 8 callers, a pool of %d", guests)))
	}
	return nil
}

// chain measures five policies one after another, as the pipeline asks them.
func (p *pluginBench) chain(ctx context.Context) error {
	var items []wasm.Item
	for i := range 5 {
		items = append(items, p.item(fmt.Sprintf("x%d", i), "go", 0))
	}
	h, chain, err := p.host(ctx, p.cache, items...)
	if err != nil {
		return err
	}
	got, err := p.measure(ctx, 1, asking(ctx, decideAll(chain), uploading))
	if err = errors.Join(err, h.Close(ctx)); err != nil {
		return err
	}
	r := got.row("a chain of five, quota, 1 caller")
	r.Bar = "p99 < 500 us"
	p.table.add(r)
	return nil
}

// filter measures a call that the manifest's expression spares.
func (p *pluginBench) filter(ctx context.Context) error {
	dir, err := filtered(p.bench, p.built["go"], "usage.adds.bytes > 0 || usage.adds.files > 0")
	if err != nil {
		return err
	}
	h, _, err := p.host(ctx, p.cache, wasm.Item{Name: "x", Path: dir, Guests: 1})
	if err != nil {
		return err
	}
	got, err := p.measure(ctx, 1, asking(ctx, decide(h.Plugin("x")), uninterested))
	if err = errors.Join(err, h.Close(ctx)); err != nil {
		return err
	}
	r := got.row("one call that `when` spares the guest")
	r.Ratio, r.Of = float64(got.p50())/float64(p.quota), "p50 of quota in go"
	p.table.add(r)
	return nil
}

// starts measures loading the guest in Go: compiled anew, and from what is kept.
func (p *pluginBench) starts(ctx context.Context) error {
	for _, cached := range []bool{false, true} {
		if !cached && p.tiny() {
			continue
		}
		var took []time.Duration
		for range p.rounds {
			cache := p.cache
			if !cached {
				var err error
				if cache, err = p.fresh("cold"); err != nil {
					return err
				}
			}
			from := time.Now()
			h, _, err := p.host(ctx, cache, p.item("x", "go", 1))
			if err != nil {
				return err
			}
			took = append(took, time.Since(from))
			if err := h.Close(ctx); err != nil {
				return err
			}
		}
		what := map[bool]string{false: "load a guest in go, cold", true: "load a guest in go, compiled before"}[cached]
		p.table.add(row{What: what, P50: middle(took)})
	}
	return nil
}

// reloads measures calls while versions take each other's places without a pause.
func (p *pluginBench) reloads(ctx context.Context) error {
	h, chain, err := p.host(ctx, p.cache, p.item("x", "go", 2))
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	var reloads atomic.Int64
	go func() {
		var err error
		for err == nil && running.Err() == nil {
			if err = h.Plugin("x").Reload(ctx); err == nil {
				reloads.Add(1)
			}
		}
		ended <- err
	}()
	got, err := p.measure(ctx, 2, asking(ctx, decideAll(chain), uploading))
	stop()
	if err = errors.Join(err, <-ended, h.Close(ctx)); err != nil {
		return err
	}
	p.table.add(got.row("quota, 2 callers, reloaded all the while"))
	p.table.note(fmt.Sprintf("While it was reloaded %d times, no call failed.", reloads.Load()))
	return nil
}

// requests measures what policies add to POST /projects.
func (p *pluginBench) requests(ctx context.Context) error {
	var without time.Duration
	for _, policies := range []int{0, 1, 5} {
		if policies > 0 && p.tiny() {
			continue // each server compiles the guest anew
		}
		var items []string
		for i := range policies {
			items = append(items, fmt.Sprintf(`{name: x%d, path: %q, config: {prefix: p}}`, i, p.built["go"]))
		}
		dir, err := p.fresh("policies")
		if err != nil {
			return err
		}
		s, err := p.serve(dir, "EIDER_PLUGINS_ITEMS=["+strings.Join(items, ",")+"]")
		if err != nil {
			return err
		}
		var made atomic.Int64
		got, cpu, err := s.spent(func() (*result, error) {
			return p.measure(ctx, 1, s.each(func(c *client) (bool, error) {
				return true, c.want(201, "POST", "/projects", s.root, fmt.Sprintf(`{"id":"p%d"}`, made.Add(1)))
			}))
		})
		if err = errors.Join(err, s.stop()); err != nil {
			return err
		}
		r := got.row(fmt.Sprintf("POST /projects, with %d policies, 1 client", policies))
		r.CPU = cpu
		if policies == 0 {
			without = got.p50()
		} else {
			r.Ratio, r.Of = float64(got.p50())/float64(without), "p50 of no policies"
		}
		p.table.add(r)
	}
	return nil
}
