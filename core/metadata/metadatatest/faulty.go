package metadatatest

import (
	"context"
	"errors"
	"sync"

	"github.com/eiderdb/eider/core/metadata"
)

// fault is what becomes of one commit.
type fault struct {
	before error // instead of the commit
	after  error // although the commit was made
	dead   bool  // and the instance is gone with it
}

// faulty is an engine whose commits fail as a test wants.
type faulty struct {
	open func() metadata.Engine
	// next says what becomes of a commit. Both are called by the writer.
	next    func(*metadata.Batch) fault
	settled func(durable bool)
	// maintained is called by Maintain.
	maintained func() error

	mu     sync.RWMutex
	inner  metadata.Engine
	dead   error
	stays  error // what Reopen fails with
	closed int
	opened int
}

func (f *faulty) now() (metadata.Engine, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.inner, f.dead
}

func (f *faulty) Migrate(ctx context.Context, all []metadata.Migration) error {
	return f.inner.Migrate(ctx, all)
}

func (f *faulty) Commit(ctx context.Context, b *metadata.Batch) error {
	meets := fault{}
	if f.next != nil {
		meets = f.next(b)
	}
	err := meets.before
	if err == nil {
		err = f.inner.Commit(ctx, b)
	}
	if f.settled != nil {
		f.settled(err == nil)
	}
	if err == nil {
		err = meets.after
	}
	if meets.dead {
		f.mu.Lock()
		f.dead = err
		f.mu.Unlock()
	}
	return err
}

func (f *faulty) Query(ctx context.Context, sql string, args ...any) (metadata.Rows, error) {
	inner, dead := f.now()
	if dead != nil {
		return nil, dead
	}
	return inner.Query(ctx, sql, args...)
}

func (f *faulty) Maintain(ctx context.Context) error {
	if f.maintained != nil {
		if err := f.maintained(); err != nil {
			return err
		}
	}
	return f.inner.Maintain(ctx)
}

// setStays says what keeps a dead engine from being reopened.
func (f *faulty) setStays(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stays = err
}

func (f *faulty) Dead() error {
	inner, dead := f.now()
	if dead != nil {
		return dead
	}
	return inner.Dead()
}

func (f *faulty) Reopen(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stays != nil {
		return f.stays
	}
	if f.dead == nil {
		return f.inner.Reopen(ctx)
	}
	if err := f.inner.Close(); err != nil {
		return err
	}
	f.inner, f.dead = f.open(), nil
	f.opened++
	return nil
}

func (f *faulty) Close() error {
	f.closed++
	return f.inner.Close()
}

var errProvoked = errors.New("provoked")
