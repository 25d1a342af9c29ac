// Package audit keeps operations_log: one row for each operation, chained by
// hash, never changed.
//
// Rows are staged in a transaction and become durable with what they report.
// The Log is the store's sealer: it numbers, stamps and hashes the rows of a
// group last before the commit. It also knows the head of the chain, the calls
// that are unfinished, and the signed checkpoints that are kept outside the
// database. It does not know what an operation means.
package audit

import (
	"database/sql"
	"encoding/json"
	"hash/fnv"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/metadata"
)

// Row is one row of operations_log. Empty texts stand for what does not apply.
type Row struct {
	ID           int64
	CallID       string // joins the rows of one call
	Time         time.Time
	RequestID    string
	TraceID      string
	ActorType    eider.ActorType
	ActorID      string
	ActorName    string
	SourceIP     string
	ProjectID    string
	ProjectUID   string
	Operation    string
	ResourceType string
	ResourceID   string
	Details      string // JSON, the exact text that is hashed
	Duration     time.Duration
	Status       eider.OperationStatus
	Code         string // of a refusal
	Error        string
	Decision     string // JSON of the policy's decision
	IntentID     int64  // of a final row: the id of its in_progress row, or 0
	Count        int64  // equal refusals that this row stands for
	PrevHash     []byte
	Hash         []byte

	holed bool // something is NULL where nothing may be, or no time that a row can have: somebody has changed the table
}

var spec = metadata.Spec{
	Name: "operations_log",
	Columns: []metadata.Column{
		{Name: "id", Kind: metadata.Int},
		{Name: "call_id", Kind: metadata.Text},
		{Name: "timestamp", Kind: metadata.Time},
		{Name: "request_id", Kind: metadata.Text},
		{Name: "trace_id", Kind: metadata.Text},
		{Name: "actor_type", Kind: metadata.Text},
		{Name: "actor_id", Kind: metadata.Text},
		{Name: "actor_name", Kind: metadata.Text},
		{Name: "source_ip", Kind: metadata.Text},
		{Name: "project_id", Kind: metadata.Text},
		{Name: "project_uid", Kind: metadata.Text},
		{Name: "operation", Kind: metadata.Text},
		{Name: "resource_type", Kind: metadata.Text},
		{Name: "resource_id", Kind: metadata.Text},
		{Name: "details", Kind: metadata.Text},
		{Name: "duration_us", Kind: metadata.Int},
		{Name: "status", Kind: metadata.Text},
		{Name: "error_code", Kind: metadata.Text},
		{Name: "error_message", Kind: metadata.Text},
		{Name: "decision", Kind: metadata.Text},
		{Name: "intent_id", Kind: metadata.Int},
		{Name: "refusals", Kind: metadata.Int},
		{Name: "prev_hash", Kind: metadata.Bytes},
		{Name: "hash", Kind: metadata.Bytes},
		{Name: "request_hash", Kind: metadata.Int},
	},
}

const rowColumns = `id, call_id, timestamp, request_id, trace_id,
	actor_type, actor_id, actor_name, source_ip, project_id, project_uid,
	operation, resource_type, resource_id, details, duration_us, status,
	error_code, error_message, decision, intent_id, refusals, prev_hash, hash`

// selectRow also reads a log that an older version wrote, before it is migrated.
const selectRow = `SELECT ` + rowColumns + ` FROM operations_log `

// Migrations creates the log. It has no index: appends stay cheap, and every
// query is bounded by a window of ids, which zone maps serve.
func Migrations() []metadata.Migration {
	return []metadata.Migration{{Owner: "audit", Number: 1, SQL: []string{`
		CREATE TABLE operations_log (
			id BIGINT NOT NULL, call_id TEXT NOT NULL, timestamp TIMESTAMPTZ NOT NULL,
			request_id TEXT NOT NULL, trace_id TEXT NOT NULL,
			actor_type TEXT NOT NULL, actor_id TEXT NOT NULL, actor_name TEXT NOT NULL, source_ip TEXT NOT NULL,
			project_id TEXT NOT NULL, project_uid TEXT NOT NULL,
			operation TEXT NOT NULL, resource_type TEXT NOT NULL, resource_id TEXT NOT NULL,
			details TEXT NOT NULL, duration_us BIGINT NOT NULL, status TEXT NOT NULL,
			error_code TEXT NOT NULL, error_message TEXT NOT NULL, decision TEXT NOT NULL,
			intent_id BIGINT NOT NULL, refusals BIGINT NOT NULL,
			prev_hash BYTEA NOT NULL, hash BYTEA NOT NULL)`, `
		CREATE TABLE sink_cursors (
			name TEXT PRIMARY KEY, log_id BIGINT NOT NULL, updated_at TIMESTAMPTZ NOT NULL)`,
	}}, {Owner: "audit", Number: 2, SQL: []string{`ALTER TABLE operations_log ADD COLUMN request_hash BIGINT`}}}
}

// requestHash stands beside a request's id, so that a row is found among ten
// millions by comparing numbers: by comparing texts it takes ten times as long.
// Rows of older versions have none. It is no part of the canonical row: it
// follows from it.
func requestHash(id string) int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id))
	return int64(h.Sum64())
}

func (r *Row) values() []any {
	return []any{
		r.ID, r.CallID, r.Time, r.RequestID, r.TraceID,
		string(r.ActorType), r.ActorID, r.ActorName, r.SourceIP, r.ProjectID, r.ProjectUID,
		r.Operation, r.ResourceType, r.ResourceID, r.Details, r.Duration.Microseconds(), string(r.Status),
		r.Code, r.Error, r.Decision, r.IntentID, r.Count, r.PrevHash, r.Hash, requestHash(r.RequestID),
	}
}

// scanRow reads a row. A NULL is read as what is empty, and noted; so is a time that no
// calendar has.
func scanRow(scan func(dest ...any) error) (Row, error) {
	var r Row
	var micros int64
	texts := []*string{&r.CallID, &r.RequestID, &r.TraceID,
		(*string)(&r.ActorType), &r.ActorID, &r.ActorName, &r.SourceIP, &r.ProjectID, &r.ProjectUID,
		&r.Operation, &r.ResourceType, &r.ResourceID, &r.Details, (*string)(&r.Status), &r.Code, &r.Error, &r.Decision}
	numbers := []*int64{&r.ID, &micros, &r.IntentID, &r.Count}
	var found struct {
		texts   [17]sql.NullString
		numbers [4]sql.NullInt64
		time    sql.NullTime
	}
	t, n := &found.texts, &found.numbers
	err := scan(&n[0], &t[0], &found.time, &t[1], &t[2], &t[3], &t[4], &t[5], &t[6], &t[7], &t[8],
		&t[9], &t[10], &t[11], &t[12], &n[1], &t[13], &t[14], &t[15], &t[16], &n[2], &n[3], &r.PrevHash, &r.Hash)
	for i := range texts {
		*texts[i] = t[i].String
		r.holed = r.holed || !t[i].Valid
	}
	for i := range numbers {
		*numbers[i] = n[i].Int64
		r.holed = r.holed || !n[i].Valid
	}
	r.Duration = time.Duration(micros) * time.Microsecond
	if r.Time = found.time.Time.UTC(); r.Time.Year() < 1 || r.Time.Year() > 9999 { // infinity, too: JSON cannot tell it
		r.Time = time.Time{}
		found.time.Valid = false
	}
	r.holed = r.holed || !found.time.Valid
	return r, err
}

func readRows(rows metadata.Rows) ([]Row, error) {
	defer rows.Close()
	var all []Row
	for rows.Next() {
		r, err := scanRow(rows.Scan)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, rows.Err()
}

// Operation is a row as the API shows it.
type Operation struct {
	ID        int64     `json:"id"`
	CallID    string    `json:"call_id"`
	Timestamp time.Time `json:"timestamp"`
	RequestID string    `json:"request_id"`
	TraceID   string    `json:"trace_id"`
	Actor     struct {
		Type eider.ActorType `json:"type"`
		ID   string          `json:"id"`
		Name string          `json:"name"`
	} `json:"actor"`
	SourceIP     string                `json:"source_ip"`
	ProjectID    *string               `json:"project_id"`
	Operation    string                `json:"operation"`
	ResourceType string                `json:"resource_type"`
	ResourceID   string                `json:"resource_id"`
	Details      json.RawMessage       `json:"details"`
	DurationMS   float64               `json:"duration_ms"`
	Status       eider.OperationStatus `json:"status" enum:"success,failed,denied,in_progress"`
	ErrorCode    string                `json:"error_code,omitempty"`
	ErrorMessage *string               `json:"error_message"`
	Count        int64                 `json:"count,omitempty" doc:"Equal refusals that this row stands for, where more than one"`
	Decision     json.RawMessage       `json:"decision,omitempty"`
	PrevHash     string                `json:"prev_hash,omitempty" doc:"Hex; of a single operation only"`
	Hash         string                `json:"hash,omitempty" doc:"Hex; of a single operation only"`
}

// API returns the row as the API shows it in lists.
func (r *Row) API() Operation {
	o := Operation{
		ID: r.ID, CallID: r.CallID, Timestamp: r.Time, RequestID: r.RequestID, TraceID: r.TraceID,
		SourceIP: r.SourceIP, Operation: r.Operation, ResourceType: r.ResourceType, ResourceID: r.ResourceID,
		Details: shown(r.Details), DurationMS: float64(r.Duration.Microseconds()) / 1000,
		Status: r.Status, ErrorCode: r.Code,
	}
	o.Actor.Type, o.Actor.ID, o.Actor.Name = r.ActorType, r.ActorID, r.ActorName
	if r.ProjectID != "" {
		o.ProjectID = &r.ProjectID
	}
	if r.Error != "" {
		o.ErrorMessage = &r.Error
	}
	if r.Count > 1 {
		o.Count = r.Count
	}
	if r.Decision != "" {
		o.Decision = shown(r.Decision)
	}
	if r.Details == "" {
		o.Details = json.RawMessage("{}")
	}
	return o
}

// shown returns the text as JSON. One that is none, as in a row that somebody
// has altered, is shown as a string: it must not keep a whole list from the
// reader who looks for it.
func shown(text string) json.RawMessage {
	if json.Valid([]byte(text)) {
		return json.RawMessage(text)
	}
	quoted, err := json.Marshal(text)
	if err != nil {
		return json.RawMessage("null")
	}
	return quoted
}
