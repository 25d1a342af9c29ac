package plugins

import (
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/policy"
	"github.com/eiderdb/eider/core/wasm"
)

// isFile reports whether the name is that of the sink that the server itself writes.
func (p *Plugins) isFile(name string) bool {
	return name == audit.FileSink && p.host.Plugin(name) == nil && p.sinks.Sink(name) != nil
}

// file shows that sink as if it were a plugin: it has no manifest, no module and no mode
// but enforce.
func (p *Plugins) file() Plugin {
	state := p.sinks.Sink(audit.FileSink)
	figures, _ := p.sinks.SinkFigures(audit.FileSink)
	out := Plugin{
		Name: audit.FileSink, Kind: wasm.Sink, Release: p.version, Mode: policy.Enforce, SettingsMode: policy.Enforce, Fail: "open",
		Projects: []string{}, Percent: 100, Capabilities: []string{}, State: "ready", Sink: state,
		Figures: wasm.Figures{
			Calls: figures.Calls, Errors: figures.Errors, LastError: figures.LastError,
			P50: float64(figures.P50.Nanoseconds()) / 1000, P99: float64(figures.P99.Nanoseconds()) / 1000,
		},
	}
	if state.State == "dead" {
		out.State = "failed"
	}
	if figures.LastError != "" {
		out.LastErrorAt = &figures.LastErrorAt
	}
	return out
}
