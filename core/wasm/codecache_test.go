package wasm

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/eiderdb/eider/core/telemetry"
	"github.com/eiderdb/eider/core/waittest"
	w "github.com/eiderdb/eider/core/wasm/wasmtest"
)

// caching returns a plugin that is not loaded, of a host with a cache of its own.
func caching(t *testing.T) (h *Host, p *Plugin, folder string) {
	t.Helper()
	tel := telemetry.Discard()
	folder = w.Folder(t, w.Policy(nil, nil), w.Manifest)
	h, err := New(Options{Dir: t.TempDir(), Cache: t.TempDir(), Log: slog.New(slog.DiscardHandler), Tracer: tel.Tracer, Meter: tel.Meter, KV: NewKV()},
		[]Item{{Name: "x", Path: folder, Guests: 1}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close(context.Background()) })
	return h, h.Plugin("x"), folder
}

// machineCode returns how many bytes of memory hold code that is of no file.
func machineCode(t *testing.T) (bytes int64) {
	t.Helper()
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	defer maps.Close()
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		var from, to, inode int64
		var rights, skip string
		if n, _ := fmt.Sscanf(lines.Text(), "%x-%x %s %s %s %d", &from, &to, &rights, &skip, &skip, &inode); n == 6 && inode == 0 && strings.Contains(rights, "x") {
			bytes += to - from
		}
	}
	return bytes
}

// Versions that others have replaced hold no memory with their machine code.
func TestCodeOfVersionsThatAreReplacedIsGivenBack(t *testing.T) {
	h, p, folder := caching(t)
	const least, reloads = 64 << 10, 12 // bytes of one
	for range 4 {                       // what earlier tests have left
		runtime.GC()
		runtime.Gosched()
	}
	before := machineCode(t)
	for n := range reloads + 1 {
		var stores []any // which nothing leaves out
		for i := range 1500 {
			stores = append(stores, w.I32(4*i), w.I32(1000*i+n), 0x36, 2, 0)
		}
		w.Put(t, folder, w.Policy(nil, func(m *w.Module) { m.Funcs = append(m.Funcs, w.Func{Code: w.Cat(stores...)}) }), w.Manifest)
		if err := p.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n == 0 && size(h.codes.dir) < least {
			t.Fatalf("one version takes %d bytes", size(h.codes.dir))
		}
	}
	waittest.Until(t, "the code of versions that were replaced is given back", func() bool {
		runtime.GC() // finalizers run after it
		h.codes.mu.Lock()
		defer h.codes.mu.Unlock()
		return len(h.codes.used) == 1 && machineCode(t) < before+4*least // reloads made much more
	})
}

// On disk there is room for so many bytes and modules that nothing uses. Those that were
// not used for longest make room for others.
func TestCodeThatWasNotUsedForLongestIsRemoved(t *testing.T) {
	name := func(n int) string { return digest([]byte{byte(n)}) }
	left := func(c *codeCache) (all string) {
		for n := range 6 {
			if _, err := os.Stat(filepath.Join(c.dir, name(n))); err == nil {
				all += fmt.Sprint(n)
			}
		}
		return all
	}
	for _, c := range []struct {
		bytes   int64
		modules int
		tidied  string // when the server starts, which uses 0 alone
		given   string // when 0 is used no more
	}{{1000, 10, "012345", "012345"}, {30, 10, "0345", "045"}, {1000, 2, "045", "05"}, {5, 5, "0", ""}, {0, 0, "0", ""}} {
		cache, err := openCodeCache(t.TempDir(), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		cache.bytes, cache.modules = c.bytes, c.modules
		others := filepath.Join(cache.dir, "not-ours")
		for n := range 6 {
			dir, used := filepath.Join(cache.dir, name(n)), time.Unix(int64(n), 0)
			if err := os.MkdirAll(filepath.Join(dir, "wazero"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "wazero", "code"), make([]byte, 10), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(dir, used, used); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Mkdir(others, 0o700); err != nil {
			t.Fatal(err)
		}
		zero := cache.take(name(0))
		again := cache.take(name(0))
		cache.give(again)
		cache.start()
		if got := left(cache); got != c.tidied {
			t.Errorf("%d bytes, %d modules: %s are left, want %s", c.bytes, c.modules, got, c.tidied)
		}
		cache.give(zero)
		if got := left(cache); got != c.given {
			t.Errorf("%d bytes, %d modules: %s are left when none is used, want %s", c.bytes, c.modules, got, c.given)
		}
		if _, err := os.Stat(others); err != nil {
			t.Error(err)
		}
	}
}

// A start tidies the cache, and so does a load that replaces another.
func TestLoadsTidyTheCache(t *testing.T) {
	h, p, folder := caching(t)
	h.codes.modules = 1
	count := func() int {
		entries, err := os.ReadDir(h.codes.dir)
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	for n := range 3 {
		if err := os.Mkdir(filepath.Join(h.codes.dir, digest([]byte{byte(n)})), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Start(t.Context()); err != nil || count() != 2 {
		t.Errorf("at the start there are %d, %v", count(), err)
	}
	w.Put(t, folder, w.Policy(w.Answer(`{"decision":"allow"}`), nil), w.Manifest)
	if err := p.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	waittest.Until(t, "the guests of what was replaced have gone, and its code with them", func() bool { return count() == 2 })
	if v := p.current.Load(); v.code.users != 1 {
		t.Errorf("what is loaded has %d uses", v.code.users)
	}
}

// A cache that cannot be written, as where the disk is full, keeps no plugin from being
// loaded.
func TestCodeThatCannotBeKeptIsUsed(t *testing.T) {
	h, p, folder := caching(t)
	module, err := os.ReadFile(filepath.Join(folder, "guest.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	used := h.codes.take(digest(module)) // its folder is not made again
	defer h.codes.give(used)
	if err := os.RemoveAll(used.dir); err != nil {
		t.Fatal(err)
	}
	if err := p.Load(t.Context()); err != nil || p.State() != "ready" {
		t.Errorf("it is %s: %v", p.State(), err)
	}
	if _, err := os.Stat(used.dir); err == nil {
		t.Error("it was kept")
	}
}
