package operation

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/metadata"
)

// maxStoredAnswer caps the answer that is kept for replays, in bytes. A longer
// one is not kept, and its key says so.
const maxStoredAnswer = 64 << 10

// record is a finished call that was given an idempotency key.
type record struct {
	Key         string // hash of credential and key
	Fingerprint string // of method, path and body
	CallID      string
	Status      int64 // of a success; 0 for a refusal
	Body        string
	CreatedAt   time.Time
	ExpiresAt   time.Time
}

func newRecords() *metadata.Table[record] {
	return metadata.NewTable(metadata.Def[record]{
		Name: "idempotency_keys",
		Columns: []metadata.Column{
			{Name: "key", Kind: metadata.Text}, {Name: "fingerprint", Kind: metadata.Text}, {Name: "call_id", Kind: metadata.Text},
			{Name: "status", Kind: metadata.Int}, {Name: "body", Kind: metadata.Text},
			{Name: "created_at", Kind: metadata.Time}, {Name: "expires_at", Kind: metadata.Time},
		},
		Key: func(r *record) string { return r.Key },
		Encode: func(r *record) []any {
			return []any{r.Key, r.Fingerprint, r.CallID, r.Status, r.Body, r.CreatedAt, r.ExpiresAt}
		},
		Decode: func(scan func(...any) error) (r record, err error) {
			err = scan(&r.Key, &r.Fingerprint, &r.CallID, &r.Status, &r.Body, &r.CreatedAt, &r.ExpiresAt)
			return r, err
		},
		Missing: eider.NotFound, Noun: "idempotency key",
	})
}

// Migrations creates the table of idempotency records. Its key has an index:
// rows are inserted and deleted, and where an expired one is used again only
// columns without an index change.
func Migrations() []metadata.Migration {
	return []metadata.Migration{{Owner: "operation", Number: 1, SQL: []string{`
		CREATE TABLE idempotency_keys (
			key TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, call_id TEXT NOT NULL, status BIGINT NOT NULL,
			body TEXT NOT NULL, created_at TIMESTAMPTZ NOT NULL, expires_at TIMESTAMPTZ NOT NULL)`}}}
}

type idempotencyKey struct {
	Key         string `json:"key"`
	Fingerprint string `json:"fingerprint"`
}

// claimed is a key that a call holds until it ends.
type claimed struct {
	idempotencyKey
	expired bool // the table has an old record of the key
}

// idempotency holds the keys of calls under way; finished ones are rows.
type idempotency struct {
	records *metadata.Table[record]
	keep    time.Duration

	mu      sync.Mutex
	running map[string]string // key -> fingerprint
}

func newIdempotency(keep time.Duration) *idempotency {
	return &idempotency{records: newRecords(), keep: keep, running: map[string]string{}}
}

func keyFor(r *Request) idempotencyKey {
	scope := sha256.Sum256([]byte(string(r.Actor.Type) + "\n" + r.Actor.ID + "\n" + r.IdempotencyKey))
	body := sha256.Sum256(r.Source.Body)
	if r.Body != nil { // it is too long to be compared
		body = sha256.Sum256([]byte(fmt.Sprintf("%d\n%s", r.Length, r.Digests)))
	}
	print := sha256.Sum256([]byte(r.Method + "\n" + r.Path + "\n" + hex.EncodeToString(body[:])))
	return idempotencyKey{hex.EncodeToString(scope[:]), hex.EncodeToString(print[:])}
}

// claim takes the key for a call, or returns the record of the call that had it.
//
// The key is taken in memory before the table is asked: a call that ends
// meanwhile has committed its record before it lets go.
func (i *idempotency) claim(ctx context.Context, v *View, r *Request) (*claimed, *record, error) {
	k := keyFor(r)
	if err := i.take(k); err != nil {
		return nil, nil, err
	}
	found, err := i.records.Get(ctx, v, k.Key)
	switch {
	case eider.CodeOf(err) == eider.NotFound:
		return &claimed{k, false}, nil, nil
	case err != nil:
		i.release(k.Key)
		return nil, nil, err
	case time.Now().After(found.ExpiresAt):
		return &claimed{k, true}, nil, nil
	}
	i.release(k.Key)
	if found.Fingerprint != k.Fingerprint {
		return nil, nil, conflict()
	}
	return nil, &found, nil
}

func conflict() error {
	return eider.Errorf(eider.IdempotencyConflict, "this idempotency key was used for another request")
}

func (i *idempotency) take(k idempotencyKey) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	other, taken := i.running[k.Key]
	if !taken {
		i.running[k.Key] = k.Fingerprint
		return nil
	}
	if other != k.Fingerprint {
		return conflict()
	}
	e := eider.Errorf(eider.IdempotencyInProgress, "the first request with this idempotency key is still running")
	e.RetryAfter = time.Second
	return e
}

// resume takes the key of an unfinished call again.
func (i *idempotency) resume(k idempotencyKey) *claimed {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.running[k.Key] = k.Fingerprint
	return &claimed{k, true}
}

func (i *idempotency) release(key string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.running, key)
}

// store stages the record of a call that ends with out or with a refusal, where
// such an end is kept.
func (i *idempotency) store(ctx context.Context, tx *Tx, c *Call, out any, refusal error) error {
	if c.idempotency == nil || !kept(refusal) {
		return nil
	}
	if refusal != nil {
		return i.keepAnswer(ctx, tx, c, 0, Public(refusal))
	}
	return i.keepAnswer(ctx, tx, c, c.Operation.Status, redacted(out))
}

// keepAnswer stages the record of a call that is answered so.
func (i *idempotency) keepAnswer(ctx context.Context, tx *Tx, c *Call, status int, answer any) error {
	now := time.Now().UTC().Truncate(time.Microsecond)
	r := record{
		Key: c.idempotency.Key, Fingerprint: c.idempotency.Fingerprint, CallID: c.ID, Status: int64(status),
		CreatedAt: now, ExpiresAt: now.Add(i.keep),
	}
	var err error
	if r.Body, err = storedText(answer); err != nil {
		return err
	}
	if c.idempotency.expired {
		return i.records.Put(ctx, tx, r)
	}
	return i.records.Insert(tx, r)
}

func storedText(v any) (string, error) {
	text, err := encode(v)
	if err != nil || len(text) > maxStoredAnswer {
		return "", err
	}
	return string(text), nil
}

// Redactor is an answer that holds a secret. Redacted returns what may be kept
// and replayed, and says what was left out.
type Redactor interface{ Redacted() any }

func redacted(out any) any {
	if r, ok := out.(Redactor); ok {
		return r.Redacted()
	}
	return out
}

// kept reports whether a call that ended so is replayed: successes, and what
// the handler refused for good. What may pass at another try is not kept: with
// the same bytes, or with those that were meant, since the key of a streamed
// body does not stand for its bytes.
func kept(refusal error) bool {
	if e, ok := refusalIn(refusal); ok {
		switch e.Status { // where it is not the code's own
		case 401, 403, 408, 423, 429, 499:
			return false
		}
		if e.Status >= 500 {
			return false
		}
	}
	switch eider.CodeOf(refusal) {
	case eider.Unauthorized, eider.Forbidden, eider.RequestTimeout, eider.Cancelled, eider.ProjectIsLocked, eider.RateLimited,
		eider.QuotaExceeded, eider.DeniedByPolicy, eider.OperationInProgress, eider.StorageFull, eider.StorageUnavailable,
		eider.ShuttingDown, eider.Internal, eider.Interrupted, eider.UploadSessionMismatch, eider.UploadInProgress,
		eider.BodyIncomplete, eider.ChecksumMismatch, eider.SizeMismatch, eider.QueryTimeout, eider.OutOfMemory, eider.TooManyQueries, eider.ProjectRestarted, eider.TooManyConnections, eider.AuditSinkBehind:
		return false
	}
	return true
}

// replay returns the answer to a call of d that the record keeps.
func (r *record) replay(d *Declared) (*Response, error) {
	answer := &Response{Status: int(r.Status), Replayed: true}
	switch {
	case r.Body == "" && r.Status != 0:
		return answer, eider.Errorf(eider.IdempotencyConflict, "the request succeeded before; its answer was too long to be kept")
	case r.Body == "":
		return answer, eider.Errorf(eider.IdempotencyConflict, "the request was refused before; its answer was too long to be kept")
	case r.Status == 0:
		var refusal eider.Error
		if err := json.Unmarshal([]byte(r.Body), &refusal); err != nil {
			return answer, fmt.Errorf("read the answer of call %s: %w", r.CallID, err)
		}
		return answer, &refusal
	case r.Status == 204:
		return answer, nil
	}
	answer.Body, answer.Headers = []byte(r.Body), d.replayAccepted(r.Status, r.Body)
	if d.Tagged {
		answer.ETag = tag(answer.Body)
	}
	return answer, nil
}

const selectExpired = `SELECT key FROM idempotency_keys WHERE expires_at <= $1 LIMIT 100`

// sweep deletes expired records, a batch at a time.
func (i *idempotency) sweep(ctx context.Context, s *metadata.Store) error {
	rows, err := s.View().Query(ctx, selectExpired, time.Now().UTC())
	if err != nil {
		return err
	}
	defer rows.Close()
	var keys []string
	for rows.Next() {
		var key string
		if err := rows.Scan(&key); err != nil {
			return err
		}
		keys = append(keys, key)
	}
	if len(keys) > 0 {
		s.Note(func(tx *Tx) error { return i.delete(tx, keys) })
	}
	return rows.Err()
}

// delete removes those of the keys that are still expired: one may have been
// used again since it was found.
func (i *idempotency) delete(tx *Tx, keys []string) error {
	ctx := context.Background()
	for _, key := range keys {
		r, err := i.records.Get(ctx, tx, key)
		if err != nil || time.Now().Before(r.ExpiresAt) {
			continue
		}
		if err := i.records.Delete(ctx, tx, key); err != nil {
			return err
		}
	}
	return nil
}
