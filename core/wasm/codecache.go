package wasm

import (
	"cmp"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"
)

// What is kept on disk of modules that no version uses: what was used last.
const (
	keptBytes   = 128 << 20
	keptModules = 512
)

// codeCache is the machine code of modules, by their sums. It is in memory as long as a
// version uses it, and stays on disk while there is room. Each module has a cache of its
// own, since of files in one that is shared nobody could tell whose they are. The folder is
// not locked: others may use it too, as tests do, and what they take away is made again.
type codeCache struct {
	dir     string
	bytes   int64
	modules int
	log     *slog.Logger

	mu     sync.Mutex
	used   map[string]*code
	closed bool
}

// code is the machine code of one module.
type code struct {
	sum   string
	dir   string
	cache wazero.CompilationCache
	users int
}

func openCodeCache(dir string, log *slog.Logger) (*codeCache, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the cache of plugins: %w", err)
	}
	return &codeCache{dir: dir, bytes: keptBytes, modules: keptModules, log: log, used: map[string]*code{}}, nil
}

// take returns the code of a module, which may have to be made yet, until give.
func (c *codeCache) take(sum string) *code {
	c.mu.Lock()
	defer c.mu.Unlock()
	one := c.used[sum]
	if one == nil {
		one = &code{sum: sum, dir: filepath.Join(c.dir, sum)}
		c.used[sum] = one
		var err error
		if one.cache, err = wazero.NewCompilationCacheWithDir(one.dir); err != nil {
			c.log.Warn("the cache of plugins cannot be written", "error", err)
			one.cache = wazero.NewCompilationCache()
		}
	}
	one.users++
	c.touch(one)
	return one
}

// touch notes when code was used.
func (c *codeCache) touch(one *code) {
	now := time.Now()
	_ = os.Chtimes(one.dir, now, now) // without it, it is made again somewhat sooner
}

// give ends a use. When the last has ended nothing holds the code any more, and the
// collector of garbage takes it out of memory.
func (c *codeCache) give(one *code) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if one.users--; one.users > 0 {
		return
	}
	delete(c.used, one.sum)
	c.touch(one)
	c.tidy()
}

// start makes room for what has come since.
func (c *codeCache) start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tidy()
}

// close leaves the folder alone from now on: it may be another server's.
func (c *codeCache) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
}

// kept is the folder of a module that no version uses.
type kept struct {
	path  string
	used  time.Time
	bytes int64
}

// tidy removes the code that was not used for longest, as far as there is too much of it.
func (c *codeCache) tidy() {
	if c.closed {
		return
	}
	unused, err := c.unused()
	if err != nil {
		c.log.Warn("the cache of plugins cannot be read", "error", err)
		return
	}
	slices.SortFunc(unused, func(a, b kept) int { return cmp.Or(b.used.Compare(a.used), cmp.Compare(a.path, b.path)) })
	var bytes int64
	for n, one := range unused {
		if bytes += one.bytes; n < c.modules && bytes <= c.bytes {
			continue
		}
		if err := os.RemoveAll(one.path); err != nil {
			c.log.Warn("the cache of plugins cannot be tidied", "error", err)
		}
	}
}

func (c *codeCache) unused() ([]kept, error) {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return nil, err
	}
	var all []kept
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !e.IsDir() || !isDigest(e.Name()) || c.used[e.Name()] != nil {
			continue // it is gone, is none of ours, or is used
		}
		path := filepath.Join(c.dir, e.Name())
		all = append(all, kept{path, info.ModTime(), size(path)})
	}
	return all, nil
}

// size returns how much is in a folder, as far as it can be read.
func size(dir string) (bytes int64) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return nil
		}
		if info, err := e.Info(); err == nil {
			bytes += info.Size()
		}
		return nil
	})
	return bytes
}
