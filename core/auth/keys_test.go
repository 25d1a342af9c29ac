package auth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/metadata"
	"github.com/eiderdb/eider/core/metadata/duckdb"
)

// unlogged is a sealer for a store without a log.
type unlogged struct{}

func (unlogged) Load(context.Context, *metadata.View) error { return nil }
func (unlogged) Seal(*metadata.Group) error                 { return nil }
func (unlogged) Sealed(*metadata.Group)                     {}
func (unlogged) Kept(*metadata.Group) bool                  { return false }

// counting counts commits that change keys.
type counting struct {
	metadata.Engine
	keys atomic.Int64
}

func (c *counting) Commit(ctx context.Context, b *metadata.Batch) error {
	for _, change := range b.Changes {
		if change.Table.Name == "api_keys" {
			c.keys.Add(1)
		}
	}
	return c.Engine.Commit(ctx, b)
}

// office is a register of keys on a database of its own.
type office struct {
	*Keys
	t      *testing.T
	dir    string
	engine *counting
	store  *metadata.Store
}

const rootToken = "the root key"

func open(t *testing.T, dir string) *office {
	t.Helper()
	engine, err := duckdb.Open(t.Context(), duckdb.Options{Path: filepath.Join(dir, "metadata.duckdb")})
	if err != nil {
		t.Fatal(err)
	}
	o := &office{Keys: NewKeys(rootToken), t: t, dir: dir, engine: &counting{Engine: engine}}
	o.store, err = metadata.Open(t.Context(), metadata.Options{
		Engine: o.engine, Tables: []metadata.AnyTable{o.Table()}, Migrations: Migrations(), Sealer: unlogged{},
		Housekeeping: []string{"api_keys"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func (o *office) close() {
	o.t.Helper()
	if err := o.store.Close(); err != nil {
		o.t.Fatal(err)
	}
}

func (o *office) write(fn func(*metadata.Tx) error) {
	o.t.Helper()
	if _, err := o.store.Write(o.t.Context(), fn); err != nil {
		o.t.Fatal(err)
	}
}

func (o *office) issue(d Draft) (Key, string) {
	o.t.Helper()
	var key Key
	var token string
	o.write(func(tx *metadata.Tx) (err error) {
		key, token, err = o.Issue(tx, d)
		return err
	})
	return key, token
}

func (o *office) change(id string, change func(*Key)) {
	o.t.Helper()
	o.write(func(tx *metadata.Tx) error {
		key, err := o.table.Get(o.t.Context(), tx, id)
		if err != nil {
			return err
		}
		change(&key)
		return o.Put(o.t.Context(), tx, key)
	})
}

func (o *office) authenticate(header string) (eider.Actor, error) {
	actor, err := o.Authenticate(o.t.Context(), o.store.View(), header)
	if err == nil {
		o.Used(actor)
	}
	return actor, err
}

var sales = Draft{ProjectID: "sales", ProjectUID: "u1", Scope: eider.ProjectWrite, Description: "ci"}

func TestTokenNamesItsKeyAndIsKeptNowhere(t *testing.T) {
	o := open(t, t.TempDir())
	key, token := o.issue(sales)
	parts := regexp.MustCompile(`^eider_([0-9a-f]{16})_([0-9a-f]{64})$`).FindStringSubmatch(token)
	if parts == nil || parts[1] != key.ID || key.API().KeyPrefix != "eider_"+key.ID {
		t.Fatalf("the token is %s, the key %s, its prefix %s", token, key.ID, key.API().KeyPrefix)
	}
	if sum := sha256.Sum256([]byte(token)); !bytes.Equal(key.Hash, sum[:]) {
		t.Error("the hash is not the token's")
	}
	root := NewRootKey()
	if !regexp.MustCompile(`^eider_root_[0-9a-f]{64}$`).MatchString(root) || root == NewRootKey() {
		t.Errorf("a root key has another form, or is not new: %s", root)
	}
	o.close()
	secret, err := hex.DecodeString(parts[2])
	if err != nil {
		t.Fatal(err)
	}
	files := 0
	err = filepath.WalkDir(o.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		files++
		text, err := os.ReadFile(path)
		if bytes.Contains(text, []byte(parts[2])) || bytes.Contains(text, secret) {
			t.Errorf("%s holds the secret", e.Name())
		}
		if !bytes.Contains(text, []byte(key.ID)) {
			t.Errorf("%s does not hold the key's row, so it proves nothing", e.Name())
		}
		return err
	})
	if err != nil || files != 1 {
		t.Errorf("%d files, %v", files, err)
	}
}

// Every header that opens nothing is refused in the same words, so that nobody
// learns which part of a key was right.
func TestEveryWrongKeyIsRefusedInTheSameWords(t *testing.T) {
	o := open(t, t.TempDir())
	defer o.close()
	key, token := o.issue(sales)
	other, otherToken := o.issue(sales)
	expired, expiredToken := o.issue(sales)
	o.change(expired.ID, func(k *Key) { k.ExpiresAt = time.Now().Add(-time.Second) })
	revoked, revokedToken := o.issue(sales)
	o.change(revoked.ID, func(k *Key) { k.RevokedAt = time.Now() })
	removed, removedToken := o.issue(Draft{ProjectID: "old", ProjectUID: "u0", Scope: eider.ProjectAdmin})
	o.write(func(tx *metadata.Tx) error { return o.Remove(t.Context(), tx, "u0") })

	secret := strings.TrimPrefix(otherToken, "eider_"+other.ID)
	for name, header := range map[string]string{
		"another scheme":       "Basic " + token,
		"no scheme":            token,
		"scheme alone":         "Bearer",
		"scheme and a space":   "Bearer ",
		"unknown id":           "Bearer eider_0123456789abcdef" + secret,
		"another key's secret": "Bearer eider_" + key.ID + secret,
		"wrong secret":         "Bearer " + token[:len(token)-1] + "x",
		"part of the secret":   "Bearer " + token[:len(token)-1],
		"more than the secret": "Bearer " + token + "0",
		"no secret":            "Bearer eider_" + key.ID + "_",
		"id alone":             "Bearer eider_" + key.ID,
		"another start":        "Bearer Eider" + token[5:],
		"upper case":           "Bearer " + strings.ToUpper(token),
		"hash of the token":    "Bearer " + hex.EncodeToString(key.Hash),
		"two tokens":           "Bearer " + token + " " + token,
		"expired":              "Bearer " + expiredToken,
		"revoked":              "Bearer " + revokedToken,
		"removed":              "Bearer " + removedToken,
		"root's id":            "Bearer eider_root_" + strings.Repeat("0", 64),
		"part of the root key": "Bearer the root",
	} {
		actor, err := o.authenticate(header)
		if actor != (eider.Actor{}) || eider.CodeOf(err) != eider.Unauthorized || err.Error() != wrongKey().Error() {
			t.Errorf("%s: %+v, %v", name, actor, err)
		}
	}
	if _, err := o.authenticate(""); eider.CodeOf(err) != eider.Unauthorized {
		t.Errorf("without a header: %v", err)
	}
	for _, k := range []Key{expired, revoked, removed} {
		if !o.LastUsed(Key{ID: k.ID}).IsZero() {
			t.Errorf("a key that opened nothing counts as used")
		}
	}
	for _, header := range []string{"Bearer " + token, "bearer " + token, "BEARER  " + token} {
		actor, err := o.authenticate(header)
		want := eider.Actor{Type: eider.ActorKey, ID: key.ID, Name: "ci", Role: eider.ProjectWrite, ProjectID: "sales", ProjectUID: "u1"}
		if err != nil || actor != want {
			t.Errorf("%s: %+v, %v", header, actor, err)
		}
	}
}

func TestRootKeyOpensEverythingUntilItIsReplaced(t *testing.T) {
	o := open(t, t.TempDir())
	defer o.close()
	actor, err := o.authenticate("Bearer " + rootToken)
	if err != nil || actor.Role != eider.Admin || actor.Type != eider.ActorRoot {
		t.Errorf("the root key is %+v, %v", actor, err)
	}
	o.SetRoot("another")
	if _, err := o.authenticate("Bearer " + rootToken); eider.CodeOf(err) != eider.Unauthorized {
		t.Errorf("the old root key: %v", err)
	}
	if _, err := o.authenticate("Bearer another"); err != nil {
		t.Errorf("the new root key: %v", err)
	}
}

func TestKeyLivesUntilItExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t, t.TempDir())
		defer o.close()
		_, token := o.issue(Draft{Scope: eider.Admin, ExpiresAt: time.Now().Add(time.Hour)})
		time.Sleep(time.Hour - time.Microsecond)
		if _, err := o.authenticate("Bearer " + token); err != nil {
			t.Errorf("a microsecond before it expires: %v", err)
		}
		time.Sleep(time.Microsecond)
		if _, err := o.authenticate("Bearer " + token); eider.CodeOf(err) != eider.Unauthorized {
			t.Errorf("when it expires: %v", err)
		}
	})
}

// The clock of these tests is synctest's: a minute passes at once, and only when
// everybody waits.

func TestLastUsedIsWrittenOnceAMinuteHoweverManyRequestsCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t, t.TempDir())
		key, token := o.issue(sales)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			o.Tend(ctx, o.store)
		}()
		made := o.engine.keys.Load()
		stored := func() time.Time {
			found, err := o.Get(t.Context(), o.store.View(), "u1", key.ID)
			if err != nil {
				t.Fatal(err)
			}
			return found.LastUsedAt
		}
		for minute := int64(1); minute <= 3; minute++ {
			for range 50 { // one a second
				if _, err := o.authenticate("Bearer " + token); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
			}
			if n := o.engine.keys.Load() - made; n != minute-1 {
				t.Fatalf("in minute %d there were %d writes", minute, n)
			}
			last := time.Now().Add(-time.Second)
			time.Sleep(12 * time.Second) // the minute ends, and a note waits for a second
			if n := o.engine.keys.Load() - made; n != minute {
				t.Fatalf("after minute %d there were %d writes", minute, n)
			}
			if !stored().Equal(last) {
				t.Errorf("stored is %v, the last use was at %v", stored(), last)
			}
		}
		time.Sleep(10 * time.Minute)
		if n := o.engine.keys.Load() - made; n != 3 {
			t.Errorf("without a request there were %d writes", n-3)
		}
		stop()
		<-ended
		o.close()
	})
}

func TestLastUsedSurvivesAStop(t *testing.T) {
	dir := t.TempDir()
	o := open(t, dir)
	key, token := o.issue(sales)
	if _, err := o.authenticate("Bearer " + token); err != nil {
		t.Fatal(err)
	}
	used := o.LastUsed(key)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	o.Tend(ctx, o.store)
	o.close()

	o = open(t, dir)
	defer o.close()
	found, err := o.Get(t.Context(), o.store.View(), "u1", key.ID)
	if err != nil || used.IsZero() || !found.LastUsedAt.Equal(used) {
		t.Errorf("after a start the last use was at %v, %v; want %v", found.LastUsedAt, err, used)
	}
	if _, err := o.authenticate("Bearer " + token); err != nil {
		t.Errorf("after a start: %v", err)
	}
}

// Between the flush and its commit, and where the commit never comes, the time
// that is shown does not go back.
func TestLastUsedNeverGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t, t.TempDir())
		defer o.close()
		key, token := o.issue(sales)
		use := func() time.Time {
			if _, err := o.authenticate("Bearer " + token); err != nil {
				t.Fatal(err)
			}
			return now()
		}
		shown := func() time.Time {
			found, err := o.Get(t.Context(), o.store.View(), "u1", key.ID)
			if err != nil {
				t.Fatal(err)
			}
			return o.LastUsed(found)
		}
		first := use()
		o.flush(o.store) // which rides in a group, at the latest in a second
		if got := shown(); !got.Equal(first) {
			t.Errorf("while it is flushed, %v is shown", got)
		}
		time.Sleep(time.Millisecond)
		second := use() // before the note is written
		time.Sleep(2 * time.Second)
		if got := shown(); !got.Equal(second) {
			t.Errorf("after the flush %v is shown, want %v", got, second)
		}
		o.flush(o.store)
		time.Sleep(2 * time.Second)
		o.mu.Lock()
		left := len(o.used)
		o.mu.Unlock()
		if left != 0 || !shown().Equal(second) {
			t.Errorf("%d keys are still to be flushed; %v is shown, want %v", left, shown(), second)
		}
	})
}

func TestKeysOfAProjectAreItsIncarnationsAlone(t *testing.T) {
	o := open(t, t.TempDir())
	defer o.close()
	first, _ := o.issue(sales)
	second, _ := o.issue(sales)
	o.issue(Draft{ProjectID: "sales", ProjectUID: "u2", Scope: eider.ProjectAdmin}) // the same id, made anew
	o.issue(Draft{Scope: eider.Admin})
	if all := o.Of("u1"); len(all) != 2 || all[0].ID != first.ID || all[1].ID != second.ID {
		t.Errorf("the keys of u1 are %v", all)
	}
	for project, n := range map[string]int{"u2": 1, "": 1, "u0": 0, "u": 0} {
		if all := o.Of(project); len(all) != n {
			t.Errorf("%q has %d keys, want %d", project, len(all), n)
		}
	}
	for _, project := range []string{"u2", "", "sales"} {
		if _, err := o.Get(t.Context(), o.store.View(), project, first.ID); eider.CodeOf(err) != eider.KeyNotFound {
			t.Errorf("in %q: %v", project, err)
		}
	}
	o.write(func(tx *metadata.Tx) error { return o.Remove(t.Context(), tx, "u1") })
	if o.Len() != 2 || len(o.Of("u1")) != 0 {
		t.Errorf("%d keys are left, %d of them u1's", o.Len(), len(o.Of("u1")))
	}
}

func TestRedactedTextHoldsNoSecretAndWhoseKeyItWas(t *testing.T) {
	id, token, _ := newToken()
	root := NewRootKey()
	text := `{"a":"` + token + `","b":"x` + root + `y","c":"eider_plugin_sdk"}`
	got := Redact(text)
	for _, key := range []string{token, root} {
		if secret := key[strings.LastIndex(key, "_")+1:]; strings.Contains(got, secret) || strings.Contains(got, secret[:20]) {
			t.Errorf("%s holds a secret", got)
		}
	}
	if got != `{"a":"eider_`+id+`_redacted","b":"xeider_root_redactedy","c":"eider_plugin_sdk"}` {
		t.Errorf("it is %s", got)
	}
}
