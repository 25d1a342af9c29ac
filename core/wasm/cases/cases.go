// Package cases holds plugins to what they must answer: a file in YAML with events
// and the decision that is wanted for each, or with batches and the receipt, asked in
// the real host.
package cases

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"strings"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/policy"
	"github.com/eiderdb/eider/core/usage"
	"github.com/eiderdb/eider/core/wasm"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
	"go.yaml.in/yaml/v3"
)

// File is a list of cases. Config, Capabilities and Event hold for all of them
// where they say nothing else.
type File struct {
	Config       map[string]any `yaml:"config"`
	Capabilities []string       `yaml:"capabilities"` // those of the manifest if left out
	Event        map[string]any `yaml:"event"`
	Batch        map[string]any `yaml:"batch"` // of a sink
	Cases        []Case         `yaml:"cases"`
}

// Case is an event and what must be decided about it.
type Case struct {
	Name         string           `yaml:"name"`
	Config       map[string]any   `yaml:"config"`
	Capabilities []string         `yaml:"capabilities"`
	Before       []map[string]any `yaml:"before"` // events that are asked about first, each laid over the file's
	Times        int              `yaml:"times"`  // how often the event comes; the last answer counts
	Event        map[string]any   `yaml:"event"`  // laid over the file's
	Batch        map[string]any   `yaml:"batch"`  // laid over the file's, for a sink
	Answer       Answer           `yaml:"answer"` // of the receiver that a sink posts to
	Want         Want             `yaml:"want"`
	Refused      string           `yaml:"refused"` // why the configuration is refused, instead of a decision
}

// Want is a decision, or a receipt. What is left out may be anything.
type Want struct {
	Receipt      string `yaml:"receipt"` // ok, retry, none: it is given none of the rows
	RetryAfterMS *int64 `yaml:"retry_after_ms"`
	Sent         *Sent  `yaml:"sent"`

	Decision   string  `yaml:"decision"` // allow, deny, warn
	Code       string  `yaml:"code"`
	Reason     *string `yaml:"reason"`
	RetryAfter *int    `yaml:"retry_after"` // seconds
}

// Parse reads a file. Members that it does not know refuse it.
func Parse(text []byte) (File, error) {
	var f File
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&f); err != nil {
		return f, fmt.Errorf("read the cases: %w", err)
	}
	for i, c := range f.Cases {
		if c.Name == "" {
			return f, fmt.Errorf("case %d has no name", i+1)
		}
		if c.Refused == "" && c.Want == (Want{}) {
			return f, fmt.Errorf("case %q wants nothing", c.Name)
		}
	}
	if len(f.Cases) == 0 {
		return f, fmt.Errorf("there are no cases")
	}
	return f, nil
}

// Result is how a case went: Wrong is "" if it went as it should.
type Result struct {
	Name, Wrong string
	Got         string
	Fuel        int64
}

// Bench is a host for one plugin, apart from every server.
type Bench struct {
	path, cache string
	builtin     func(string) ([]byte, error)
	manifest    wasm.Manifest
	hosts       map[string]*loaded
	receiver    *receiver // of a sink's requests
}

type loaded struct {
	host *wasm.Host
	err  error
}

// New returns a bench for the plugin at a path, which is an item's. What is
// compiled is kept in the folder cache.
func New(path, cache string, manifest wasm.Manifest, builtin func(string) ([]byte, error)) *Bench {
	return &Bench{path: path, cache: cache, builtin: builtin, manifest: manifest, hosts: map[string]*loaded{}}
}

// Plugin loads the plugin with a configuration, once for each.
func (b *Bench) Plugin(ctx context.Context, config map[string]any, capabilities []string) (*wasm.Plugin, error) {
	key, err := json.Marshal([]any{config, capabilities})
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	if b.hosts[string(key)] == nil {
		b.hosts[string(key)] = b.load(ctx, config, capabilities)
	}
	l := b.hosts[string(key)]
	if l.err != nil {
		return nil, l.err
	}
	return l.host.Plugin("it"), nil
}

func (b *Bench) load(ctx context.Context, config map[string]any, capabilities []string) *loaded {
	item := wasm.Item{Name: "it", Path: b.path, Config: config, Capabilities: capabilities, HTTPHosts: b.manifest.HTTP.Hosts, Guests: 1}
	if b.receiver != nil {
		item.HTTPHosts, item.HTTPPrivate = append([]string{b.receiver.address()}, item.HTTPHosts...), []string{b.receiver.address()}
	}
	host, err := wasm.New(wasm.Options{
		Cache: b.cache, Log: slog.New(slog.DiscardHandler), Tracer: tracenoop.NewTracerProvider().Tracer(""),
		Meter: metricnoop.NewMeterProvider().Meter(""), KV: wasm.NewKV(), Builtin: b.builtin,
		Metadata: wasm.Metadata{
			Project: func(string) (eider.Project, bool) { return eider.Project{}, false },
			Usage:   func(context.Context, string) (usage.Amounts, error) { return usage.Amounts{}, nil },
		},
	}, []wasm.Item{item})
	if err != nil {
		return &loaded{err: err}
	}
	return &loaded{host, host.Plugin("it").Load(ctx)}
}

// Close lets go of what was loaded.
func (b *Bench) Close(ctx context.Context) {
	if b.receiver != nil {
		b.receiver.close()
	}
	for _, l := range b.hosts {
		if l.host != nil {
			_ = l.host.Close(ctx) // nothing of it is kept
		}
	}
}

// Run asks about every case. An error is one of the file, not of a case.
func (b *Bench) Run(ctx context.Context, f File) ([]Result, error) {
	if b.manifest.Kind == wasm.Sink && b.receiver == nil {
		var err error
		if b.receiver, err = receive(); err != nil {
			return nil, err
		}
	}
	var all []Result
	for _, c := range f.Cases {
		r, err := b.run(ctx, f, c)
		if err != nil {
			return all, fmt.Errorf("case %q: %w", c.Name, err)
		}
		all = append(all, r)
	}
	return all, nil
}

func (b *Bench) run(ctx context.Context, f File, c Case) (Result, error) {
	r := Result{Name: c.Name}
	config, capabilities := f.Config, b.manifest.Capabilities
	if c.Config != nil {
		config = c.Config
	}
	if f.Capabilities != nil {
		capabilities = f.Capabilities
	}
	if c.Capabilities != nil {
		capabilities = c.Capabilities
	}
	if b.receiver != nil {
		config = b.receiver.named(config).(map[string]any)
	}
	p, err := b.Plugin(ctx, config, capabilities)
	switch {
	case c.Refused != "" && err == nil:
		r.Wrong = fmt.Sprintf("it is taken, and should be refused: %s", c.Refused)
		return r, nil
	case c.Refused != "":
		r.Got = "refused: " + err.Error()
		if !strings.Contains(err.Error(), c.Refused) {
			r.Wrong = fmt.Sprintf("it is refused with %q, want %q", err, c.Refused)
		}
		return r, nil
	case err != nil:
		r.Wrong = "it is refused: " + err.Error()
		return r, nil
	}
	if b.manifest.Kind == wasm.Sink {
		return b.give(ctx, p, f, c, r)
	}
	events, err := c.events(f.Event)
	if err != nil {
		return r, err
	}
	session := p.Session()
	defer session.End()
	var d policy.Decision
	for _, e := range events {
		if d, _, err = session.Ask(ctx, e); err != nil {
			r.Wrong = "it could not decide: " + err.Error()
			return r, nil
		}
	}
	r.Got, r.Fuel = Words(d), d.Fuel
	r.Wrong = c.Want.compare(d)
	return r, nil
}

// events returns those that a case asks about, in their order.
func (c *Case) events(base map[string]any) ([]*wasm.Event, error) {
	over := append([]map[string]any{}, c.Before...)
	for range max(1, c.Times) {
		over = append(over, c.Event)
	}
	var all []*wasm.Event
	for _, one := range over {
		e, err := Event(base, one)
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

// Event returns the event that base is with what lies over it.
func Event(base, over map[string]any) (*wasm.Event, error) {
	text, err := json.Marshal(lay(base, over))
	if err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	e := &wasm.Event{}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(e); err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	return e, nil
}

// lay returns a copy of base with the members of over in their place, objects
// member by member.
func lay(base, over map[string]any) map[string]any {
	all := map[string]any{}
	for name, value := range base {
		all[name] = value
	}
	for name, value := range over {
		above, object := value.(map[string]any)
		below, was := all[name].(map[string]any)
		if object && was {
			value = lay(below, above)
		}
		all[name] = value
	}
	return all
}

func (w *Want) compare(d policy.Decision) string {
	got := word(d)
	var wrong []string
	if w.Decision != "" && w.Decision != got {
		wrong = append(wrong, fmt.Sprintf("want %s", w.Decision))
	}
	code := string(d.Code)
	if d.Deny && code == "" {
		code = string(eider.DeniedByPolicy)
	}
	if w.Code != "" && w.Code != code {
		wrong = append(wrong, fmt.Sprintf("want code %s", w.Code))
	}
	if w.Reason != nil && *w.Reason != reason(d) {
		wrong = append(wrong, fmt.Sprintf("want reason %q", *w.Reason))
	}
	if w.RetryAfter != nil && *w.RetryAfter != d.Retry {
		wrong = append(wrong, fmt.Sprintf("want retry_after %d", *w.RetryAfter))
	}
	if len(wrong) == 0 {
		return ""
	}
	return Words(d) + ": " + strings.Join(wrong, ", ")
}

func word(d policy.Decision) string {
	switch {
	case d.Deny:
		return "deny"
	case len(d.Warning) > 0:
		return "warn"
	}
	return "allow"
}

func reason(d policy.Decision) string {
	if d.Deny || len(d.Warning) == 0 {
		return d.Reason
	}
	return strings.Join(d.Warning, "; ")
}

// Words says a decision in words.
func Words(d policy.Decision) string {
	text := word(d)
	if d.Deny && d.Code != "" {
		text += " " + string(d.Code)
	}
	if d.Retry > 0 {
		text += fmt.Sprintf(", after %d s", min(d.Retry, math.MaxInt32))
	}
	if r := reason(d); r != "" {
		text += fmt.Sprintf(", %q", r)
	}
	return text
}

// Source returns the path of the cases beside a plugin's manifest.
func Source(folder string) string { return filepath.Join(folder, "cases.yaml") }
