package app

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/telemetry"
)

// A round that fails or panics is told to the log, and the next one comes at its
// time.
func TestJobGoesOnAfterARoundThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		a := &App{telemetry: &telemetry.Telemetry{Log: slog.New(slog.NewTextHandler(&log, nil))}}
		var rounds atomic.Int32
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			a.run(ctx, core.Job{Name: "sweep", Every: func() time.Duration { return time.Minute }, Run: func(context.Context) error {
				switch rounds.Add(1) {
				case 1:
					return errors.New("no luck")
				case 2:
					panic("worse")
				}
				return nil
			}})
		}()
		for minute := range int32(4) { // the first round is at once
			synctest.Wait()
			if n := rounds.Load(); n != minute+1 {
				t.Fatalf("after %d minutes there were %d rounds", minute, n)
			}
			time.Sleep(time.Minute)
		}
		stop()
		<-ended
		for _, want := range []string{`job=sweep error="no luck"`, `job=sweep error="panic: worse"`} {
			if strings.Count(log.String(), want) != 1 {
				t.Errorf("the log does not say %s once: %s", want, log.String())
			}
		}
	})
}

// A question that hangs, deaf to its context, is asked once, however many wait
// for its answer and for however long.
func TestProbeWaitsNoLongerThanItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		held := make(chan struct{})
		var asked atomic.Int32
		p := &prober{ask: func(context.Context) error {
			asked.Add(1)
			<-held
			return nil
		}}
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * time.Minute)
				ctx, cancel := context.WithTimeout(t.Context(), probeWithin)
				defer cancel()
				begun := time.Now()
				if err := p.wait(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != probeWithin {
					t.Errorf("after %s: %v", time.Since(begun), err)
				}
			})
		}
		wg.Wait()
		close(held)
		synctest.Wait()
		if err := p.wait(t.Context()); err != nil || asked.Load() != 2 {
			t.Errorf("once it answers again: %v, asked %d times", err, asked.Load())
		}
	})
}

func TestProbeTellsWhatWasAnswered(t *testing.T) {
	want := errors.New("the file is gone")
	p := &prober{ask: func(ctx context.Context) error {
		if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > probeWithin {
			t.Error("the question has no bound")
		}
		return want
	}}
	if err := p.wait(t.Context()); !errors.Is(err, want) {
		t.Errorf("it answered %v", err)
	}
}
