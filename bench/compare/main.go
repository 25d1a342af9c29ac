// Command compare measures other hosts of policies than Eider's: the Go SDK of Extism, and
// OPA as a library. It is a module of its own, so that Eider needs nothing of theirs; bench
// runs it for its group plugins, beside the same policy in Eider.
//
// It reads an event in JSON, asks about it one call after another, and writes a line of
// JSON for each kind of call.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// figures are one line of the answer. bench reads it.
type figures struct {
	What      string        `json:"what"`
	PerSecond float64       `json:"per_second"`
	P50       time.Duration `json:"p50_ns"`
	P99       time.Duration `json:"p99_ns"`
}

func main() {
	lasts := flag.Duration("lasts", 5*time.Second, "how long each load lasts")
	guest := flag.String("guest", "", "the plugin of Extism, built from guard if empty")
	flag.Parse()
	if err := run(context.Background(), *lasts, *guest); err != nil {
		fmt.Fprintf(os.Stderr, "compare: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, lasts time.Duration, guest string) error {
	event, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	lines := json.NewEncoder(os.Stdout)
	out := func(what string, f figures) error {
		f.What = what
		return lines.Encode(f)
	}
	if err := extism(ctx, guest, event, lasts, out); err != nil {
		return err
	}
	return opa(ctx, event, lasts, out)
}

// measure calls for a fifth of lasts to warm up, then for lasts.
func measure(lasts time.Duration, call func() error) (f figures, err error) {
	for until := time.Now().Add(lasts / 5); time.Now().Before(until); {
		if err := call(); err != nil {
			return f, err
		}
	}
	var times []time.Duration
	begun := time.Now()
	for now := begun; now.Sub(begun) < lasts; {
		if err := call(); err != nil {
			return f, err
		}
		after := time.Now()
		times = append(times, after.Sub(now))
		now = after
	}
	f.PerSecond = float64(len(times)) / time.Since(begun).Seconds()
	slices.Sort(times)
	f.P50, f.P99 = times[len(times)/2], times[len(times)*99/100]
	return f, nil
}
