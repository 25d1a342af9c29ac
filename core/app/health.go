package app

import (
	"bytes"
	"context"
	"sync"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/schema"
	"github.com/eiderdb/eider/core/web"
)

// Probe bounds: readiness asks the store, within two seconds; liveness asks
// nothing.
const probeWithin = 2 * time.Second

// clockSlack is how far the clock may be behind the log before health says so.
const clockSlack = time.Second

type about struct {
	Service string `json:"service"`
	Version string `json:"version"`
	Health  string `json:"health"`
	Docs    string `json:"docs"`
}

type health struct {
	Status           string          `json:"status" enum:"healthy,degraded,unavailable"`
	Version          string          `json:"version"`
	StorageAvailable bool            `json:"storage_available"`
	Details          map[string]bool `json:"details"`
}

type live struct {
	Status string `json:"status"`
}

func (a *App) authenticate(ctx context.Context, header string) (eider.Actor, error) {
	return a.Kernel.Keys.Authenticate(ctx, a.store.View(), header)
}

// verify returns the actor of a signed URL.
func (a *App) verify(ctx context.Context, method, target string) (eider.Actor, error) {
	return a.urls.Verify(ctx, a.store.View(), method, target)
}

// mountServer adds the routes that are no operations: they change nothing, need
// no key, and answer while operations cannot.
func (a *App) mountServer() error {
	document, err := a.Document()
	if err != nil {
		return err
	}
	page, policy := schema.DocsPage("Eider API", "/openapi.json")
	none := web.RouteOptions{}
	a.Web.Handle("GET", "/", none, func(x *web.Exchange) error {
		return x.JSON(200, about{"eider", a.options.Version, "/health", "/docs"})
	})
	a.Web.Handle("GET", "/health", none, a.health)
	a.Web.Handle("GET", "/health/live", none, func(x *web.Exchange) error { return x.JSON(200, live{"alive"}) })
	probe := &prober{ask: a.store.Probe}
	a.Web.Handle("GET", "/health/ready", none, func(x *web.Exchange) error { return a.ready(x, probe) })
	a.Web.Handle("GET", "/metrics", none, a.metrics)
	a.Web.Handle("GET", "/openapi.json", none, func(x *web.Exchange) error {
		return x.Bytes(200, "application/json", document)
	})
	a.Web.Handle("GET", "/docs", none, func(x *web.Exchange) error {
		x.SetHeader("Content-Security-Policy", policy)
		return x.Bytes(200, "text/html; charset=utf-8", page)
	})
	return nil
}

// details says what holds and what does not.
func (a *App) details() map[string]bool {
	all := map[string]bool{
		"metadata":       a.store.Ready() == nil,
		"disk_space":     !a.Kernel.Space.Low(),
		"clock":          a.Kernel.Audit.Behind() <= clockSlack,
		"log_followers":  a.followers.Failing() == nil,
		"sinks":          len(a.followers.Dead()) == 0,
		"checkpoint":     a.Kernel.Audit.Proven(),
		"plugins":        a.plugins.Healthy(),
		"projects":       a.databases.Degraded() == 0,
		"settled":        len(a.Kernel.Pipeline.Stuck()) == 0,
		"accepts_writes": a.store.Ready() == nil && !a.Kernel.Space.Low() && a.behind() == nil && !a.Web.Draining(),
	}
	if holds, known := a.databases.Confined(); known {
		all["confinement"] = holds
	}
	return all
}

func (a *App) health(x *web.Exchange) error {
	if err := a.store.Ready(); err != nil {
		return err
	}
	h := health{"healthy", a.options.Version, true, a.details()}
	for name, ok := range h.Details {
		if !ok && name != "projects" { // one that keeps crashing is its own affair
			h.Status = "degraded"
		}
	}
	return x.JSON(200, h)
}

func (a *App) ready(x *web.Exchange, probe *prober) error {
	if a.Web.Draining() {
		return eider.Errorf(eider.ShuttingDown, "the server is shutting down")
	}
	ctx, cancel := context.WithTimeout(x.Context(), probeWithin)
	defer cancel()
	if err := probe.wait(ctx); err != nil {
		return eider.Errorf(eider.StorageUnavailable, "the metadata store does not answer").Because(err)
	}
	return x.JSON(200, live{"ready"})
}

func (a *App) metrics(x *web.Exchange) error {
	if a.Settings.HTTP.MetricsRole == "admin" {
		if err := a.mayScrape(x); err != nil {
			return err
		}
	}
	var b bytes.Buffer
	contentType, err := a.telemetry.WriteMetrics(&b, x.Header("Accept"))
	if err != nil {
		return err
	}
	return x.Bytes(200, contentType, b.Bytes())
}

// mayScrape refuses a scrape without an admin's key, and leaves a row.
func (a *App) mayScrape(x *web.Exchange) error {
	actor, err := a.authenticate(x.Context(), x.Header("Authorization"))
	if err != nil {
		actor = eider.Actor{Type: eider.ActorAnonymous}
	} else if actor.Role < eider.Admin {
		err = eider.Errorf(eider.Forbidden, "metrics need an admin key")
	}
	if err != nil {
		scrape := &operation.Declared{Spec: operation.Spec{Name: "get_metrics", Target: "server"}, Kind: operation.KindRead}
		a.Kernel.Pipeline.Refuse(x.Context(), scrape, &operation.Request{
			Method: x.Method(), Path: x.Target(), Actor: actor, RequestID: x.RequestID(), SourceIP: x.SourceIP(), Begun: time.Now(),
		}, err)
		return err
	}
	a.Kernel.Keys.Used(actor)
	return nil
}

// prober asks one question at a time, and waits no longer than its caller does:
// a store that hangs, whether it heeds its context or not, holds up one
// goroutine and not one for each probe.
type prober struct {
	ask func(context.Context) error

	mu      sync.Mutex
	running *probing
}

type probing struct {
	done chan struct{} // closed once err is set
	err  error
}

func (p *prober) wait(ctx context.Context) error {
	now := p.join()
	select {
	case <-now.done:
		return now.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// join returns the question that is being asked, or asks it.
func (p *prober) join() *probing {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running != nil {
		return p.running
	}
	now := &probing{done: make(chan struct{})}
	p.running = now
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), probeWithin)
		defer cancel()
		now.err = p.ask(ctx)
		close(now.done)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.running = nil
	}()
	return now
}
