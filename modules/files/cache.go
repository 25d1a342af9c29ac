package files

import (
	"context"
	"sync"

	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/operation"
)

// maxCached bounds the rows that are kept in memory. There may be millions.
const maxCached = 10_000

// cache holds rows that were read: a point read of the database costs as much as
// the download of a megabyte. It changes in the writer, after each commit and
// before who asked for the change is answered:
//
//	a reader misses, remembers the generation, and reads the row
//	the writer commits another one, forgets the id, counts the generation on
//	the reader keeps what it has read only if the generation is still the same
type cache struct {
	mu         sync.Mutex
	rows       map[string]row
	generation uint64
}

func newCache() *cache { return &cache{rows: map[string]row{}} }

func (c *cache) get(id string) (r row, generation uint64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok = c.rows[id]
	return r, c.generation, ok
}

func (c *cache) keep(r row, generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if generation != c.generation {
		return
	}
	if len(c.rows) >= maxCached {
		for id := range c.rows { // any will do
			delete(c.rows, id)
			break
		}
	}
	c.rows[r.ID] = r
}

func (c *cache) forget(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.rows, id)
	c.generation++
}

// row returns a file's row: from memory where nothing is changed by it.
func (f *Files) row(ctx context.Context, r metadata.Reader, id string) (row, error) {
	if _, reading := r.(*operation.View); !reading {
		return f.rows.Get(ctx, r, id)
	}
	found, generation, ok := f.cached.get(id)
	if ok {
		return found, nil
	}
	found, err := f.rows.Get(ctx, r, id)
	if err == nil {
		f.cached.keep(found, generation)
	}
	return found, err
}

// changed has the row read anew once the transaction is committed. Every change of
// a row calls it.
func (f *Files) changed(tx *operation.Tx, id string) { tx.After(func() { f.cached.forget(id) }) }
