package wire

import (
	"sync"

	"google.golang.org/grpc/mem"
)

// Pool has the memory of frames used again. gRPC's own clears a whole megabyte for
// each frame of rows, a fifth of what a large answer costs; what is taken from here
// is overwritten to its length by who takes it.
type Pool struct{ parts, frames sync.Pool }

var _ mem.BufferPool = (*Pool)(nil)

// What buffers hold, in bytes: gRPC cuts messages into parts of the one size; the
// other is that of most frames of rows. What is larger is not kept.
const (
	partSize  = 16 << 10
	frameSize = 320 << 10
)

// Get returns a buffer of n bytes. What is in it is left from before.
func (p *Pool) Get(n int) *[]byte {
	pool, size := &p.frames, frameSize
	switch {
	case n > frameSize:
		b := make([]byte, n)
		return &b
	case n <= partSize:
		pool, size = &p.parts, partSize
	}
	if b, ok := pool.Get().(*[]byte); ok {
		*b = (*b)[:n]
		return b
	}
	b := make([]byte, n, size)
	return &b
}

// Put takes a buffer back.
func (p *Pool) Put(b *[]byte) {
	switch cap(*b) {
	case frameSize:
		p.frames.Put(b)
	case partSize:
		p.parts.Put(b)
	}
}
