// Package wire is what the server and a project's worker say to each other, over
// one end each of a socket pair.
//
// gRPC does the framing, the flow control and the cancelling (docs/decisions);
// its messages are frames of ours: a kind, and bytes that are JSON where they
// steer and opaque where they are rows. Before it starts, the server sends one
// Setup over the bare socket, with the file of the project's lock. The server
// trusts nothing that a worker says: every length and time is bounded here.
package wire

import (
	"encoding/json"
	"fmt"

	"github.com/eiderdb/eider"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
)

// Setup is the first thing that a worker is told.
type Setup struct {
	Folder      string `json:"folder"`       // of the project, absolute
	MemoryLimit int64  `json:"memory_limit"` // of DuckDB, in bytes
	MaxSize     int64  `json:"max_size"`     // of one file, in bytes; 0: no limit
	MaxTemp     int64  `json:"max_temp"`     // of what is spilled, in bytes
	Threads     int    `json:"threads"`
	// Confinement is required or best_effort.
	Confinement string `json:"confinement"`
}

// overhead is what a worker may have besides DuckDB's memory limit, in bytes: for
// what DuckDB does not count, which at times is as much again.
const overhead = 512 << 20

// Budget is how much memory the worker may take beyond what it has before it
// opens the database, in bytes.
func (s Setup) Budget() int64 { return 2*s.MemoryLimit + overhead }

// Opened is a worker's answer to the setup.
type Opened struct {
	Error *Error `json:"error,omitempty"` // why the project is not open; the worker ends
}

// Request is one piece of work.
type Request struct {
	ID   int64           `json:"id"` // another for each request to a worker
	Op   string          `json:"op"`
	Call string          `json:"call,omitempty"` // the id of the call, where it changes something
	Args json.RawMessage `json:"args,omitempty"`
}

// OpSettled, with a Settle, is answered by a Settled once that request runs no more,
// or its commit has begun.
const OpSettled = "settled"

// OpCheckpoint has the worker fold its write-ahead log into the file.
const OpCheckpoint = "checkpoint"

// Settle names a request that was cut.
type Settle struct {
	ID        int64 `json:"id"`
	Committed bool  `json:"committed,omitempty"` // wait for the end of its commit
}

// Settled is what became of it.
type Settled struct {
	Commits bool `json:"commits,omitempty"` // its commit has begun, and is not over
}

// The kinds of frame.
const (
	KindRequest  = 'q' // a Request, the only one that the server sends
	KindHead     = 'h' // JSON, before the first data
	KindData     = 'd' // bytes for the client, as they are
	KindProgress = 'p' // a Progress
	KindEnd      = 'e' // an End; nothing follows
)

// Frame is a message.
type Frame struct {
	Kind byte
	Body []byte

	buffer mem.Buffer // what holds the body, if it is used again
}

// Data returns a frame of bytes for the client. Their memory is the pool's once they
// are sent.
func (c Codec) Data(p []byte) *Frame {
	return &Frame{Kind: KindData, buffer: mem.NewBuffer(&p, c.Pool)}
}

// Free gives the memory of a frame that was received back, for others.
func (f *Frame) Free() {
	if f.buffer != nil {
		f.buffer.Free()
		f.buffer, f.Body = nil, nil
	}
}

// Progress is how far the work is.
type Progress struct {
	Fraction float64 `json:"fraction"`
	Rows     int64   `json:"rows"`
}

// End is how the work ended.
type End struct {
	Result json.RawMessage `json:"result,omitempty"`
	Error  *Error          `json:"error,omitempty"`
	Last   bool            `json:"last,omitempty"` // the worker ends: DuckDB has given its database up
}

// Error is a refusal on its way to the server.
type Error struct {
	Code    eider.Code         `json:"code"`
	Message string             `json:"message"`
	Logged  string             `json:"logged,omitempty"`
	Fields  []eider.FieldError `json:"fields,omitempty"`
}

// The bounds of a message, in bytes.
const (
	MaxRequest = 2 << 20
	MaxFrame   = 4 << 20
)

// Run is the full method of the one call that there is.
const Run = "/eider.Worker/Run"

// Stream describes it: one request, many frames back.
var Stream = grpc.StreamDesc{StreamName: "Run", ServerStreams: true}

// Codec carries frames.
type Codec struct{ Pool *Pool }

// Name is part of gRPC's content type.
func (Codec) Name() string { return "eider-frame" }

// Marshal puts the kind before the body.
func (Codec) Marshal(v any) (mem.BufferSlice, error) {
	f, ok := v.(*Frame)
	if !ok {
		return nil, fmt.Errorf("wire: %T is no frame", v)
	}
	body := f.buffer
	if body == nil {
		body = mem.SliceBuffer(f.Body)
	}
	return mem.BufferSlice{mem.SliceBuffer([]byte{f.Kind}), body}, nil
}

// Unmarshal takes the message over from gRPC, which uses its buffers again: see
// Free.
func (c Codec) Unmarshal(data mem.BufferSlice, v any) error {
	f, ok := v.(*Frame)
	if !ok {
		return fmt.Errorf("wire: %T is no frame", v)
	}
	buffer := data.MaterializeToBuffer(c.Pool)
	all := buffer.ReadOnlyData()
	if len(all) == 0 {
		buffer.Free()
		return fmt.Errorf("wire: an empty message")
	}
	f.Kind, f.Body, f.buffer = all[0], all[1:], buffer
	return nil
}
