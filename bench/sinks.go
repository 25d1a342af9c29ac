package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/disk"
	"github.com/eiderdb/eider/core/wasm"
)

// sinkRows is how many rows a sink is given at a time, as by a follower of the log.
const sinkRows = 5000

// benchSinks measures how fast sinks take rows of the log, in this process and
// without reading them: each is given the same rows again and again.
func benchSinks(ctx context.Context, b *bench) error {
	s := &sinkBench{pluginBench: &pluginBench{bench: b, built: map[string]string{}}}
	var err error
	if s.cache, err = b.fresh("sink-cache"); err != nil {
		return err
	}
	for i := range sinkRows {
		s.rows = append(s.rows, audit.Row{
			ID: int64(i + 1), CallID: "01a21c5f-316c-75da-9420-988a13052705", Time: time.Unix(1_795_761_600, int64(i)*1000).UTC(), RequestID: "01a21c5f-316c-75da-9420-988a13052705",
			ActorType: eider.ActorKey, ActorID: "k1", ActorName: "loader", SourceIP: "10.0.0.7", ProjectID: "sales", ProjectUID: "01a21c5f-316c-75da-9420-988a13052705",
			Operation: "upload_file", ResourceType: "file", ResourceID: "01a21c5f-316c-75da-9420-988a13052705", Details: `{"name":"a.csv","size_bytes":12345}`,
			Duration: 12 * time.Millisecond, Status: eider.StatusSuccess, Count: 1, PrevHash: make([]byte, 32), Hash: make([]byte, 32),
		})
	}
	parts := []func(context.Context) error{s.file, s.ignoring, s.posting}
	if b.tiny() {
		parts = parts[:2]
	}
	for _, part := range parts {
		if err := part(ctx); err != nil {
			return err
		}
	}
	b.table.note("Rows are given to sinks 5,000 at a time, in batches as each wants them: the file 1,000, which it syncs; the plugins 500, or as many as their bytes allow.")
	return nil
}

type sinkBench struct {
	*pluginBench
	rows []audit.Row
}

// take measures a sink.
func (s *sinkBench) take(ctx context.Context, what string, take func(context.Context, audit.Batch) (int64, error)) error {
	epoch := int64(0)
	batches := 0
	round := func() error {
		epoch++ // other rows than before, for a sink that knows those
		for rows := s.rows; len(rows) > 0; batches++ {
			last, err := take(ctx, audit.Batch{Epoch: epoch, Rows: rows, Attempt: 1})
			if err != nil {
				return err
			}
			for len(rows) > 0 && rows[0].ID <= last {
				rows = rows[1:]
			}
		}
		return nil
	}
	if err := round(); err != nil { // guests and caches warm up
		return fmt.Errorf("%s: %w", what, err)
	}
	rounds := 0
	batches = 0
	begun := time.Now()
	for ; time.Since(begun) < s.lasts || rounds == 0; rounds++ {
		if err := round(); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	took := time.Since(begun)
	s.table.add(row{What: what, PerSecond: float64(rounds*len(s.rows)) / took.Seconds(), P50: took / time.Duration(batches)})
	return nil
}

func (s *sinkBench) file(ctx context.Context) error {
	dir, err := s.fresh("sink-file")
	if err != nil {
		return err
	}
	f := &audit.File{Path: filepath.Join(dir, "operations.ndjson"), MaxSize: 100 << 20, Keep: 1, Files: &disk.FS{}}
	return errors.Join(s.take(ctx, "rows into the file", f.Take), f.Close())
}

// ignoring measures what it costs to hand rows over: the example notify looks at
// each and posts none of them.
func (s *sinkBench) ignoring(ctx context.Context) error {
	return s.plugin(ctx, "rows to a plugin that posts none", "sdk/go/examples/notify", wasm.Item{Config: map[string]any{"url": "http://127.0.0.1:1"}})
}

func (s *sinkBench) posting(ctx context.Context) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	at := listener.Addr().String()
	err = s.plugin(ctx, "rows posted and signed by audit-webhook", "plugins/audit-webhook", wasm.Item{
		Capabilities: []string{"http", "clock"}, HTTPHosts: []string{at}, HTTPPrivate: []string{at},
		Config: map[string]any{"url": "http://" + at, "secret": "of the benchmark"},
	})
	err = errors.Join(err, server.Close())
	if ended := <-served; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}

// plugin builds a sink of this repository and measures it.
func (s *sinkBench) plugin(ctx context.Context, what, source string, item wasm.Item) error {
	dir, err := s.fresh("sink-plugin")
	if err != nil {
		return err
	}
	if err := buildSink(ctx, source, dir); err != nil {
		return err
	}
	item.Name, item.Path, item.Guests = "sink", dir, 1
	h, _, err := s.host(ctx, s.cache, item)
	if err != nil {
		return err
	}
	return errors.Join(s.take(ctx, what, h.Plugin("sink").Take), h.Close(ctx))
}

// buildSink compiles a sink beside a copy of its manifest.
func buildSink(ctx context.Context, source, dir string) error {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return fmt.Errorf("find the repository: %w", err)
	}
	source = filepath.Join(strings.TrimSpace(string(out)), source)
	manifest, err := os.ReadFile(filepath.Join(source, "plugin.yaml"))
	if err != nil {
		return err
	}
	m, err := wasm.ParseManifest(manifest)
	if err != nil {
		return err
	}
	build := exec.CommandContext(ctx, "go", "build", "-buildmode=c-shared", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, m.Module), ".")
	build.Dir, build.Env = source, append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=")
	if text, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w: %s", source, err, text)
	}
	return os.WriteFile(filepath.Join(dir, "plugin.yaml"), manifest, 0o600)
}
