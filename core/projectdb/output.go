package projectdb

import (
	"bufio"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// output is what a worker says on its standard streams. A tenant's SQL may write
// there: it is bounded, and stands in the log as a text.
type output struct {
	log  *slog.Logger
	done chan struct{} // closed at its end

	mu     sync.Mutex
	memory bool // it was said that there was no memory left
}

// The bounds of what is heard.
const (
	maxLine        = 1 << 10 // in bytes
	linesPerSecond = 20
)

// noMemory is what Go, C and C++ say before they end for want of memory.
var noMemory = []string{"out of memory", "cannot allocate memory", "std::bad_alloc", "failed to create new OS thread", "pthread_create failed"}

// hear reads until the worker has ended.
func (o *output) hear(r io.ReadCloser, pid int) {
	defer close(o.done)
	defer r.Close()
	defer func() {
		if v := recover(); v != nil {
			o.log.Error("what a worker said was not understood", "pid", pid, "panic", v)
		}
	}()
	lines := bufio.NewReaderSize(r, maxLine)
	second, said, left := time.Now(), 0, 0
	for {
		line, rest, err := lines.ReadLine()
		if err != nil {
			break
		}
		o.note(string(line))
		for rest && err == nil { // what is longer is not read
			_, rest, err = lines.ReadLine()
		}
		if now := time.Now(); now.Sub(second) > time.Second {
			second, said = now, 0
		}
		if said++; said > linesPerSecond {
			left++
			continue
		}
		o.log.Warn("a worker says", "pid", pid, "text", strings.ToValidUTF8(string(line), "?"))
	}
	if left > 0 {
		o.log.Warn("a worker said more than is shown", "pid", pid, "lines", left)
	}
}

func (o *output) note(line string) {
	for _, words := range noMemory {
		if strings.Contains(line, words) {
			o.mu.Lock()
			o.memory = true
			o.mu.Unlock()
		}
	}
}

// outOfMemory reports whether the worker said so.
func (o *output) outOfMemory() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.memory
}
