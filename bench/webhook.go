package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"github.com/eiderdb/eider/core/policy"
)

// webhook measures the same question put to a server beside this one, which is what
// policies are where they are no plugins: JSON over a connection that stays open.
func (p *pluginBench) webhook(ctx context.Context) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: http.HandlerFunc(answerHook)}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	ask := func(ctx context.Context, q *policy.Question) error {
		return askHook(ctx, &http.Client{Transport: transport}, "http://"+listener.Addr().String(), q)
	}
	got, err := p.measure(ctx, 1, asking(ctx, ask, uploading))
	transport.CloseIdleConnections()
	err = errors.Join(err, server.Close())
	if ended := <-served; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	if err != nil {
		return err
	}
	r := got.row("a webhook on loopback, quota")
	r.Ratio, r.Of, r.Bar = float64(got.p50())/float64(p.quota), "p50 of quota in go", "above 1 x"
	p.table.add(r)
	p.table.note("The webhook is net/http on both sides, in this process, on one connection.")
	return nil
}

func askHook(ctx context.Context, client *http.Client, url string, q *policy.Question) error {
	text, err := json.Marshal(q)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(text))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	a, err := client.Do(r)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	var d struct{ Decision string }
	if err := json.NewDecoder(a.Body).Decode(&d); err != nil || d.Decision != "allow" {
		return fmt.Errorf("the webhook says %q: %w", d.Decision, err)
	}
	_, err = io.Copy(io.Discard, a.Body) // so that the connection is used again
	return err
}

// answerHook is the quota of the example guard.
func answerHook(w http.ResponseWriter, r *http.Request) {
	var q policy.Question
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	limit := int64(1_000_000)
	var settings struct{ Quota struct{ Bytes *int64 } }
	if q.Project != nil && json.Unmarshal(q.Project.Settings, &settings) == nil && settings.Quota.Bytes != nil {
		limit = *settings.Quota.Bytes
	}
	decision := "allow"
	if q.Adds.Bytes > 0 && q.ProjectUsage.Bytes > limit {
		decision = "deny"
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"decision": decision}) // a client that has gone is told by Decode
}

// filtered returns a copy of a plugin whose manifest has the expression.
func filtered(b *bench, plugin, when string) (string, error) {
	dir, err := b.fresh("filtered")
	if err != nil {
		return "", err
	}
	for _, name := range []string{"plugin.yaml", "guard.wasm"} {
		content, err := os.ReadFile(filepath.Join(plugin, name))
		if err != nil {
			return "", err
		}
		if name == "plugin.yaml" {
			content = append(content, "\nwhen: "+when+"\n"...)
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return "", err
		}
	}
	return dir, nil
}
