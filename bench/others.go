package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// others measures the same policy under Extism's Go SDK and under OPA: bench/compare, which
// is a module of its own, does, on the same event. Where that module cannot be built,
// because what it needs is not to be had, the table says so.
func (p *pluginBench) others(ctx context.Context) error {
	if p.tiny() {
		return nil
	}
	root, err := repository(ctx)
	if err != nil {
		return err
	}
	folder := filepath.Join(root, "bench", "compare")
	program := p.compare
	if program == "" {
		program = filepath.Join(p.dir, "compare")
		build := exec.CommandContext(ctx, "go", "build", "-o", program, ".")
		build.Dir = folder
		if text, err := build.CombinedOutput(); err != nil {
			lines := strings.Split(strings.TrimSpace(string(text)), "\n")
			p.table.note(fmt.Sprintf("Not measured: Extism and OPA, which cannot be built here: %v: %s", err, lines[len(lines)-1]))
			return nil
		}
	}
	event, err := json.Marshal(uploading)
	if err != nil {
		return err
	}
	var said bytes.Buffer
	run := exec.CommandContext(ctx, program, "-lasts", p.lasts.String())
	run.Dir, run.Stdin, run.Stderr = folder, bytes.NewReader(event), &said
	lines, err := run.Output()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, said.Bytes())
	}
	for d := json.NewDecoder(bytes.NewReader(lines)); d.More(); {
		var f struct {
			What      string
			PerSecond float64       `json:"per_second"`
			P50       time.Duration `json:"p50_ns"`
			P99       time.Duration `json:"p99_ns"`
		}
		if err := d.Decode(&f); err != nil {
			return fmt.Errorf("%s: %w", program, err)
		}
		r := row{What: f.What, PerSecond: f.PerSecond, P50: f.P50, P99: f.P99, Bar: "above 1 x"}
		r.Ratio, r.Of = float64(f.P50)/float64(p.quota), "p50 of quota in go"
		if strings.Contains(f.What, "no-op") {
			r.Ratio, r.Of = float64(f.P50)/float64(p.noop), "p50 of no-op in go"
		}
		p.table.add(r)
	}
	p.table.note("The guest under Extism is written as its authors write one in Go, with encoding/json, and has no span and no metrics; with a timeout is how " +
		"Extism ends a guest that does not end by itself, which fuel does here. OPA is a library in Go: its policies run in the process of " +
		"their host; its figures with the event parsed before leave out what a call from outside has to do.")
	return nil
}

// repository returns the folder of this module.
func repository(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the repository: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}
