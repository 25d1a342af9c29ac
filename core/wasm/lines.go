package wasm

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	maxLine   = 2048 // bytes
	lineBurst = 100
	lineRate  = 20 // a second
)

// lines is a plugin's way into the server's log: at most so many lines, of at
// most such a length, and what is too much is counted.
type lines struct {
	log     *slog.Logger
	granted bool
	now     func() time.Time

	mu      sync.Mutex
	room    float64
	at      time.Time
	dropped int64
	rest    []byte // of what was written to stdout without an end of line
}

func newLines(log *slog.Logger, granted bool) *lines {
	return &lines{log: log, granted: granted, now: time.Now, room: lineBurst}
}

// line writes one, and reports whether there was room for it.
func (l *lines) line(level int32, text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if !l.at.IsZero() {
		l.room = min(lineBurst, l.room+lineRate*now.Sub(l.at).Seconds())
	}
	l.at = now
	if l.room < 1 {
		l.dropped++
		return false
	}
	l.room--
	l.tellDropped()
	levels := [...]slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError}
	l.log.Log(context.Background(), levels[min(max(0, level), 3)], "a plugin says", "text", strings.ToValidUTF8(text, "\uFFFD"))
	return true
}

func (l *lines) tellDropped() {
	if l.dropped > 0 {
		l.log.Warn("a plugin said too much, and some of it is not here", "lines", l.dropped)
		l.dropped = 0
	}
}

func (l *lines) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tellDropped()
}

// Write takes what guests write to stdout and stderr.
func (l *lines) Write(b []byte) (int, error) {
	n := len(b)
	for {
		l.mu.Lock()
		line, rest, whole := bytes.Cut(b, []byte("\n"))
		l.rest = append(l.rest, line[:min(len(line), maxLine-len(l.rest))]...)
		text := string(l.rest)
		if whole {
			l.rest = l.rest[:0]
		}
		l.mu.Unlock()
		if !whole {
			return n, nil
		}
		if text != "" && utf8.ValidString(text) {
			l.line(1, text)
		}
		b = rest
	}
}
