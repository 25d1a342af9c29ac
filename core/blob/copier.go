package blob

import (
	"context"
	"errors"
	"hash"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// The sizes of a block, in bytes. Every upload begins with a small one, and who
// is slow stays with it: a thousand slow clients must not cost a gigabyte.
const (
	smallBlock = 16 << 10
	largeBlock = 256 << 10
)

// An upload is fast from the moment when so many bytes came within so long. What
// single reads bring says nothing: chunks and forms come in small pieces, however
// fast they come.
const (
	fastBytes  = 128 << 10
	fastWithin = 250 * time.Millisecond
	blocks     = 3 // of a fast upload
)

// flushEvery is after how many bytes the kernel is told to begin writing: a sync
// that finds all still to be written stops the upload meanwhile.
const flushEvery = 8 << 20

// copier copies a body into a part. Reading and writing go on here. MD5 and
// SHA-256, each about as slow as the disk, have a goroutine of their own as soon
// as the upload is fast. Then a block goes round:
//
//	free -> read and written -> both hashes -> free
type copier struct {
	u       *Upload
	since   time.Time // when the bytes of came began to come
	came    int
	fast    bool
	flushed int64
	free    chan *block
	hashers []chan *block
	wg      sync.WaitGroup
}

type block struct {
	data []byte
	n    int
	uses atomic.Int32
}

func newCopier(u *Upload) *copier { return &copier{u: u, since: time.Now(), flushed: u.offset} }

func (c *copier) run(ctx context.Context, r io.Reader, limit int64, grow Grow) error {
	b := &block{data: make([]byte, smallBlock)}
	granted := c.u.offset
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := c.fill(r, b.data)
		if n > 0 {
			length := c.u.offset + int64(n)
			if length > limit {
				return io.ErrShortBuffer
			}
			if length > granted {
				var refusal error
				if granted, refusal = c.grow(ctx, grow, length, min(granted+growStep, limit)); refusal != nil {
					return refusal
				}
			}
			b.n = n
			next, err := c.keep(b)
			if err != nil {
				return err
			}
			b = next
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if c.u.offset-c.u.saved >= saveEvery && !c.u.whole {
			if err := c.save(); err != nil {
				return err
			}
		}
	}
}

// grow asks for a step, and where that is too much for the length that is there:
// what is left of a quota is less than a step.
func (c *copier) grow(ctx context.Context, grow Grow, length, step int64) (granted int64, err error) {
	if step > length {
		if grow(ctx, step) == nil {
			return step, nil
		}
	}
	return length, grow(ctx, length)
}

// fill reads until the block is half full: small reads would mean small writes.
func (c *copier) fill(r io.Reader, p []byte) (n int, err error) {
	for n < len(p)/2 && err == nil {
		var got int
		got, err = r.Read(p[n:])
		n += got
	}
	if c.came += n; c.came >= fastBytes && !c.fast {
		c.fast = time.Since(c.since) < fastWithin
		c.came, c.since = 0, time.Now()
	}
	return n, err
}

// keep writes a block, has it hashed, and returns one that is free.
func (c *copier) keep(b *block) (*block, error) {
	if _, err := c.u.file.Write(b.data[:b.n]); err != nil {
		return nil, err
	}
	c.u.offset += int64(b.n)
	if c.u.offset-c.flushed >= flushEvery {
		c.u.file.Flush(c.flushed, c.u.offset-c.flushed)
		c.flushed = c.u.offset
	}
	if !c.fast {
		c.u.md5.Write(b.data[:b.n])
		c.u.sha.Write(b.data[:b.n])
		return b, nil
	}
	if c.hashers == nil {
		c.start()
	}
	b.uses.Store(int32(len(c.hashers)))
	for _, h := range c.hashers {
		h <- b
	}
	return <-c.free, nil
}

func (c *copier) start() {
	c.free = make(chan *block, blocks+1)
	for range blocks {
		c.free <- c.u.local.block()
	}
	for _, h := range []hash.Hash{c.u.md5, c.u.sha} {
		in := make(chan *block, blocks+1)
		c.hashers = append(c.hashers, in)
		c.wg.Add(1)
		go func() {
			defer c.wg.Done()
			for b := range in {
				h.Write(b.data[:b.n])
				if b.uses.Add(-1) == 0 && len(b.data) == largeBlock {
					c.free <- b
				}
			}
		}()
	}
}

// save waits for the hashes, which a state must hold, and saves. The next block
// starts them anew.
func (c *copier) save() error {
	c.wait()
	return c.u.Save()
}

// wait ends the hashing of what was written.
func (c *copier) wait() {
	for _, h := range c.hashers {
		close(h)
	}
	c.wg.Wait()
	c.hashers = nil
	for len(c.free) > 0 {
		c.u.local.spare.Put(<-c.free)
	}
}

// block returns a large block, used before or new.
func (l *Local) block() *block {
	if b, ok := l.spare.Get().(*block); ok {
		return b
	}
	return &block{data: make([]byte, largeBlock)}
}
