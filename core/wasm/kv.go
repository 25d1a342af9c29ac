package wasm

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/metadata"
)

const (
	maxKey   = 256
	maxValue = 64 << 10
	maxKeys  = 100_000
	maxHeld  = 32 << 20 // bytes of keys and values
	perEntry = 64       // what an entry counts besides
)

// KV is what plugins remember: each item in a space of its own, in memory, and
// behind it in the table plugin_state.
//
// A change is seen by all guests at once, and is durable with the next group of
// writes: with the operation that it was made for, if that writes, else within a
// second. After a crash that much may be missing. Of an item that changes more than
// maxWritten keys in that time the others follow with the groups after.
type KV struct {
	Table *metadata.Table[State]

	note func(func(*metadata.Tx) error) // nil until it is opened, and in tests

	mu     sync.Mutex
	spaces map[string]*space
	dirty  map[string]map[string]bool // by item, keys of rows that the table does not have yet
	stored map[string]bool            // keys of rows that it has
	noted  bool                       // a note is under way that has not begun
}

// What one item may add to a group of writes, for which others wait.
const (
	maxWritten      = 500
	maxWrittenBytes = 4 << 20
)

// State is a row of what a plugin remembers.
type State struct {
	Key       string // of the item, a slash, and the plugin's key in base64
	Value     string // base64
	ExpiresAt time.Time
}

// NewKV returns spaces in which nothing is remembered. Open reads what is.
func NewKV() *KV {
	return &KV{spaces: map[string]*space{}, dirty: map[string]map[string]bool{}, stored: map[string]bool{}, Table: metadata.NewTable(metadata.Def[State]{
		Name: "plugin_state",
		Columns: []metadata.Column{
			{Name: "key", Kind: metadata.Text}, {Name: "value", Kind: metadata.Text}, {Name: "expires_at", Kind: metadata.Time},
		},
		Key:    func(s *State) string { return s.Key },
		Encode: func(s *State) []any { return []any{s.Key, s.Value, metadata.NullTime(s.ExpiresAt)} },
		Decode: func(scan func(...any) error) (s State, err error) {
			var expires *time.Time
			err = scan(&s.Key, &s.Value, &expires)
			s.ExpiresAt = metadata.OrZero(expires)
			return s, err
		},
		Missing: eider.NotFound, Noun: "state",
	})}
}

// Migrations creates the tables of what plugins remember, and of modes that were set.
func Migrations() []metadata.Migration {
	return []metadata.Migration{
		{Owner: "plugins", Number: 1, SQL: []string{`
		CREATE TABLE plugin_state (key TEXT PRIMARY KEY, value TEXT NOT NULL, expires_at TIMESTAMPTZ)`}},
		{Owner: "plugins", Number: 2, SQL: []string{`
		CREATE TABLE plugin_modes (
			plugin TEXT PRIMARY KEY, mode TEXT NOT NULL, settings_mode TEXT NOT NULL, set_at TIMESTAMPTZ NOT NULL)`}},
	}
}

// Open reads what plugins remember; from then on changes are noted in the store.
func (k *KV) Open(ctx context.Context, store *metadata.Store) error {
	rows, err := store.View().Query(ctx, "SELECT key, value, expires_at FROM plugin_state")
	if err != nil {
		return fmt.Errorf("read plugin_state: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var key, value string
		var expires *time.Time
		if err := rows.Scan(&key, &value, &expires); err != nil {
			return fmt.Errorf("read plugin_state: %w", err)
		}
		k.stored[key] = true
		item, below, _ := strings.Cut(key, "/")
		name, err := base64.RawURLEncoding.DecodeString(below)
		text, err2 := base64.StdEncoding.DecodeString(value)
		if err != nil || err2 != nil {
			continue // somebody else wrote it: a plugin that forgets is better than no server
		}
		k.space(item).put(string(name), entry{value: text, expires: metadata.OrZero(expires)})
	}
	k.note = store.Note
	return rows.Err()
}

// space returns the one of the item.
func (k *KV) space(item string) *space {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.spaces[item]
	if s == nil {
		s = newSpace(item)
		s.changed = k.changed
		k.spaces[item] = s
	}
	return s
}

// changed has the entry written with the next group.
func (k *KV) changed(item, key string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.note == nil {
		return
	}
	if k.dirty[item] == nil {
		k.dirty[item] = map[string]bool{}
	}
	k.dirty[item][rowKey(item, key)] = true
	k.ask()
}

// ask has what is dirty written; k is locked.
func (k *KV) ask() {
	if !k.noted {
		k.noted = true
		k.note(k.write)
	}
}

func rowKey(item, key string) string {
	return item + "/" + base64.RawURLEncoding.EncodeToString([]byte(key))
}

// some returns rows that are to be written with the next group: of each item as many as
// it may have there.
func (k *KV) some() (rows []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.noted = false
	for _, dirty := range k.dirty {
		n := 0
		for row := range dirty {
			if n++; n > maxWritten {
				break
			}
			rows = append(rows, row)
		}
	}
	return rows
}

// write stages what has changed, as far as one group takes it. It may run twice, when a
// group is split. What it staged is written again if the group was not kept: it is
// forgotten only after the commit.
func (k *KV) write(tx *metadata.Tx) error {
	staged, held := map[string]uint64{}, map[string]int{}
	for _, row := range k.some() {
		item, below, _ := strings.Cut(row, "/")
		if held[item] > maxWrittenBytes {
			continue
		}
		name, err := base64.RawURLEncoding.DecodeString(below)
		if err != nil {
			return err
		}
		e, there := k.space(item).raw(string(name))
		staged[row], held[item] = e.turn, held[item]+len(e.value)
		if err := k.stage(tx, row, e, there); err != nil {
			return fmt.Errorf("write %s: %w", row, err)
		}
	}
	tx.After(func() { k.written(staged) })
	return nil
}

// stage stages one row. Which rows the table has is known here, so that none is looked
// up: that takes longer than writing it.
func (k *KV) stage(tx *metadata.Tx, row string, e entry, there bool) error {
	k.mu.Lock()
	stored := k.stored[row]
	k.mu.Unlock()
	s := State{row, base64.StdEncoding.EncodeToString(e.value), e.expires.UTC().Truncate(time.Microsecond)}
	switch {
	case there && stored:
		return k.Table.Update(tx, s)
	case there:
		return k.Table.Insert(tx, s)
	case stored:
		return k.Table.Drop(tx, s)
	}
	return nil
}

// written forgets what is durable, unless it has changed since, and asks for the next
// group if more is waiting.
func (k *KV) written(staged map[string]uint64) {
	for row, turn := range staged {
		item, below, _ := strings.Cut(row, "/")
		name, _ := base64.RawURLEncoding.DecodeString(below)
		e, _ := k.space(item).raw(string(name))
		k.mu.Lock()
		if turn > 0 {
			k.stored[row] = true
		} else {
			delete(k.stored, row)
		}
		if e.turn == turn {
			delete(k.dirty[item], row)
		}
		if len(k.dirty[item]) == 0 {
			delete(k.dirty, item)
		}
		k.mu.Unlock()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.dirty) > 0 {
		k.ask()
	}
}

// Sweep forgets what has expired.
func (k *KV) Sweep() {
	k.mu.Lock()
	all := slices.Collect(maps.Values(k.spaces))
	k.mu.Unlock()
	for _, s := range all {
		s.sweep()
	}
}

type entry struct {
	value   []byte
	expires time.Time // zero: never
	turn    uint64    // of the change that made it
}

// space is what one item remembers.
type space struct {
	item    string
	now     func() time.Time
	changed func(item, key string) // nil: nothing is kept

	mu      sync.Mutex
	entries map[string]entry
	held    int
	turn    uint64
	swept   []string  // to make room, and the table still has them
	looked  time.Time // when room was last sought
}

func newSpace(item string) *space {
	return &space{item: item, now: time.Now, entries: map[string]entry{}}
}

// live returns the entry unless it has expired; s is locked.
func (s *space) live(key string) (entry, bool) {
	e, ok := s.entries[key]
	if ok && !e.expires.IsZero() && !s.now().Before(e.expires) {
		return entry{}, false // the sweep takes it
	}
	return e, ok
}

func (s *space) remove(key string) {
	if e, ok := s.entries[key]; ok {
		s.held -= len(key) + len(e.value) + perEntry
		delete(s.entries, key)
	}
}

func (s *space) put(key string, e entry) {
	s.remove(key)
	s.turn++
	e.turn = s.turn
	s.entries[key] = e
	s.held += len(key) + len(e.value) + perEntry
}

func (s *space) raw(key string) (entry, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.entries[key]
	return e, ok
}

// keep puts a value of its own, if there is room; s is locked.
func (s *space) keep(key string, value []byte, expires time.Time) int64 {
	old, there := s.entries[key]
	grows := len(value) - len(old.value)
	if !there {
		grows = len(key) + len(value) + perEntry
		// Once a second: each time looks at every key, with all guests waiting.
		if now := s.now(); len(s.entries) >= maxKeys && now.Sub(s.looked).Abs() >= time.Second {
			s.looked = now
			s.swept = append(s.swept, s.sweepLocked()...)
		}
		if len(s.entries) >= maxKeys {
			return codeLimit
		}
	}
	if s.held+grows > maxHeld {
		return codeLimit
	}
	s.put(key, entry{value: slices.Clone(value), expires: expires})
	return 0
}

func (s *space) until(life time.Duration) time.Time {
	if life == 0 {
		return time.Time{}
	}
	return s.now().Add(life)
}

// change does something to the entry, and has it kept if the code says so.
func (s *space) change(key string, do func() int64) int64 {
	s.mu.Lock()
	code := do()
	changed := s.swept
	s.swept = nil
	s.mu.Unlock()
	if code >= 0 {
		changed = append(changed, key)
	}
	s.tell(changed)
	return code
}

func (s *space) tell(changed []string) {
	for _, key := range changed {
		if s.changed != nil {
			s.changed(s.item, key)
		}
	}
}

func (s *space) get(key string) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.live(key)
	return e.value, ok // never changed in place
}

func (s *space) set(key string, value []byte, life time.Duration) int64 {
	return s.change(key, func() int64 { return s.keep(key, value, s.until(life)) })
}

func (s *space) delete(key string) {
	s.change(key, func() int64 { s.remove(key); return 0 })
}

func (s *space) add(key string, delta int64, life time.Duration) (sum int64, code int64) {
	code = s.change(key, func() int64 {
		e, there := s.live(key)
		expires := e.expires
		if there {
			n, err := strconv.ParseInt(string(e.value), 10, 64)
			if err != nil {
				return codeMalformed
			}
			sum = n
		} else {
			expires = s.until(life)
		}
		if (delta > 0 && sum > math.MaxInt64-delta) || (delta < 0 && sum < math.MinInt64-delta) {
			return codeLimit
		}
		sum += delta
		return s.keep(key, strconv.AppendInt(nil, sum, 10), expires)
	})
	return sum, code
}

func (s *space) swap(key string, old []byte, absent bool, value []byte, life time.Duration) int64 {
	swapped := int64(0)
	code := s.change(key, func() int64 {
		e, there := s.live(key)
		if there == absent || (there && string(e.value) != string(old)) {
			return codeNotFound // no change
		}
		swapped = 1
		return s.keep(key, value, s.until(life))
	})
	if code < 0 && swapped == 1 {
		return code
	}
	return swapped
}

func (s *space) sweep() {
	s.mu.Lock()
	gone := s.sweepLocked()
	s.mu.Unlock()
	s.tell(gone)
}

func (s *space) sweepLocked() (gone []string) {
	now := s.now()
	for key, e := range s.entries {
		if !e.expires.IsZero() && !now.Before(e.expires) {
			s.remove(key)
			gone = append(gone, key)
		}
	}
	return gone
}
