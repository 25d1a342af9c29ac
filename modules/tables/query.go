package tables

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core"
	"github.com/eiderdb/eider/core/config"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/projectdb"
	"github.com/eiderdb/eider/core/projectdb/wire"
	"github.com/eiderdb/eider/core/projectdb/worker"
	"github.com/eiderdb/eider/core/schema"
)

// QuerySettings is the section "queries".
type QuerySettings struct {
	Timeout    config.Duration `koanf:"timeout" doc:"How long a statement may take that asks for no other time"`
	MaxTimeout config.Duration `koanf:"max_timeout" doc:"The longest time that a statement can ask for"`
	MaxRows    int64           `koanf:"max_rows" doc:"How many rows a JSON answer has that asks for no other number"`
	AtOnce     int             `koanf:"at_once" doc:"How many statements of one project run at a time"`
	Keep       config.Duration `koanf:"keep_results" doc:"How long the file is kept that holds the result of a query that ran as a job"`
}

// Validate refuses what could run nothing.
func (s *QuerySettings) Validate() error {
	switch {
	case s.Timeout < config.Duration(time.Millisecond) || s.MaxTimeout < s.Timeout:
		return errors.New("timeout must be at least 1ms, and max_timeout no less")
	case s.MaxRows < 1:
		return errors.New("max_rows must be at least 1")
	case s.AtOnce < 1:
		return errors.New("at_once must be at least 1")
	case s.Keep < config.Duration(time.Minute):
		return errors.New("keep_results must be at least 1m")
	}
	return nil
}

// queries runs tenants' statements.
type queries struct {
	tables   *Tables
	settings QuerySettings
	write    *operation.Handle[runQuery, executed]
	job      *operation.Handle[runQuery, queryResult]

	mu      sync.Mutex
	running map[string]int // statements by the project's uid
}

func (f *Tables) declareQuery(r *core.Registry) {
	q := &queries{tables: f, running: map[string]int{}, settings: QuerySettings{
		Timeout: config.Duration(time.Minute), MaxTimeout: config.Duration(10 * time.Minute), MaxRows: 10_000, AtOnce: 8,
		Keep: config.Duration(24 * time.Hour),
	}}
	r.Settings.Section("queries", &q.settings)
	spec := operation.Spec{Name: "query", Target: "project", Errors: queryErrors, Slow: true, Async: true, Route: operation.Internal + " /projects/{id}/query"}
	q.declareWrite(r, spec)
	q.declareJob(r, spec)
	spec.Route, spec.Role = "POST /projects/{id}/query", eider.ProjectRead
	spec.Summary = "Run a statement"
	spec.Description = "Accept chooses the form: application/json, application/x-ndjson, text/csv or application/vnd.apache.arrow.stream. " +
		"Rows are sent while they are computed; a statement that fails then cuts the connection. mode write needs project_write, and is one " +
		"transaction: with an Idempotency-Key it happens once. As a job, the rows are its result where they are JSON of at most 48 KiB, " +
		"else a stored file that the result names."
	spec.Answers = []schema.Answer{{Status: 200, Doc: "The rows, in the form that Accept asks for; those of a statement that writes are JSON", Media: []schema.Media{
		schema.JSON[queryAnswered](), schema.Text("application/x-ndjson"), schema.Text("text/csv"), schema.Bytes("application/vnd.apache.arrow.stream"),
	}}}
	operation.StreamOr(r.Operations, spec, q.divert, q.run)
}

var queryErrors = []eider.Code{
	eider.ProjectIsLocked, eider.QuotaExceeded, eider.DuplicateKeyValue,
	eider.QueryFailed, eider.StatementNotAllowed, eider.QueryTimeout, eider.OutOfMemory, eider.TooManyQueries, eider.ProjectRestarted, eider.NotAcceptable,
}

type runQuery struct {
	ID        string `path:"id" json:"-"`
	Accept    string `header:"Accept" json:"-" doc:"The form of the answer; JSON if there is none"`
	SQL       string `json:"sql" required:"true" minLength:"1" maxLength:"1000000" doc:"One statement"`
	Params    []any  `json:"params,omitempty" maxItems:"1000" doc:"Values of its parameters, in their order: strings, numbers, booleans and null. They are bound, never put into the text."`
	TimeoutMS int64  `json:"timeout_ms,omitempty" minimum:"1" doc:"How long the statement may compute; time that the client takes to read does not count"`
	MaxRows   int64  `json:"max_rows,omitempty" minimum:"1" doc:"Rows beyond are left out, which a JSON answer tells as truncated. If absent: 10,000 in JSON, all of them in other forms"`
	Mode      string `json:"mode,omitempty" enum:"read,write" doc:"write for a statement that changes something"`
}

// queryAnswered is the JSON answer, which a reading statement's relay writes piece
// by piece, and which executed is for one that writes.
type queryAnswered struct {
	Columns   []worker.QueryColumn `json:"columns"`
	Rows      []json.RawMessage    `json:"rows" doc:"Objects, a member for each column"`
	Affected  *int64               `json:"affected_rows,omitempty" doc:"Of a statement that writes"`
	Truncated bool                 `json:"truncated" doc:"Rows were left out: max_rows"`
	ElapsedMS int64                `json:"elapsed_ms"`
}

// form is how the rows of an answer are sent.
type form struct{ worker, mediaType string }

var forms = []form{
	{worker.FormJSON, "application/json"}, {worker.FormLines, "application/x-ndjson"},
	{worker.FormCSV, "text/csv"}, {worker.FormArrow, "application/vnd.apache.arrow.stream"},
}

// divert names what a call is that is not answered by its rows: a statement that
// writes is an effect, and so is one whose rows are kept.
func (q *queries) divert(call *operation.Call, in runQuery, async bool) (*operation.Declared, error) {
	describeSQL(call, redact(in.SQL))
	as, err := accepted(in.Accept)
	switch {
	case err != nil:
		return nil, err
	case in.Mode == "write":
		call.Detail("mode", "write")
		if as.worker != worker.FormJSON {
			return nil, eider.Errorf(eider.NotAcceptable, "a statement that writes is answered in JSON alone")
		}
		return q.write.Declared(), nil
	case async:
		return q.job.Declared(), nil
	}
	return nil, nil
}

func (q *queries) run(ctx context.Context, _ *operation.View, in runQuery) (*operation.Content, error) {
	as, err := accepted(in.Accept)
	if err != nil {
		return nil, err
	}
	answer, err := q.start(ctx, in, as, nil)
	if err != nil {
		return nil, err
	}
	return &operation.Content{
		Type: contentType(as), Length: -1, Write: answer.write, Closing: answer.relay,
		Headers: map[string]string{"Cache-Control": "no-store"},
	}, nil
}

// start has a worker begin a statement that reads, and returns once its first
// rows are there. progress, if there is one, is told of the others.
func (q *queries) start(ctx context.Context, in runQuery, as form, progress func(fraction float64, rows int64)) (*queryAnswer, error) {
	call := operation.From(ctx)
	rows := in.MaxRows
	if rows == 0 && as.worker == worker.FormJSON {
		rows = q.settings.MaxRows
	}
	params, err := bindable(in.Params)
	if err != nil {
		return nil, err
	}
	args, err := json.Marshal(worker.Query{SQL: in.SQL, Params: params, Form: as.worker, MaxRows: rows})
	if err != nil {
		return nil, err
	}
	limit, err := q.timeout(in.TimeoutMS)
	if err != nil {
		return nil, err
	}
	r := newRelay(ctx, limit, limit)
	err = q.begin(call, r, wire.Request{Op: "query", Args: args}, progress)
	if eider.CodeOf(err) == eider.ProjectRestarted && ctx.Err() == nil {
		// Its neighbour had the worker killed, and nothing was sent yet. What it has
		// had of its time is gone.
		r = newRelay(ctx, limit, r.rest())
		err = q.begin(call, r, wire.Request{Op: "query", Args: args}, progress)
	}
	if err != nil {
		return nil, err
	}
	return &queryAnswer{relay: r, form: as, call: call}, nil
}

func contentType(f form) string {
	if f.worker == worker.FormCSV {
		return f.mediaType + "; charset=utf-8; header=present"
	}
	return f.mediaType
}

// describeSQL puts into the log what a statement is, without the data in it.
func describeSQL(call *operation.Call, redacted string) {
	call.Detail("fingerprint", fingerprint(redacted))
	call.Detail("sql", redacted)
}

func bindable(params []any) (all []json.RawMessage, err error) {
	for _, p := range params {
		text, err := json.Marshal(p)
		if err != nil {
			return nil, err
		}
		all = append(all, text)
	}
	return all, nil
}

// timeout returns how long a statement may compute.
func (q *queries) timeout(asked int64) (time.Duration, error) {
	longest := time.Duration(q.settings.MaxTimeout)
	if asked == 0 {
		return time.Duration(q.settings.Timeout), nil
	}
	if asked > longest.Milliseconds() {
		return 0, eider.Invalid("timeout_ms", "must be at most %d", longest.Milliseconds())
	}
	return time.Duration(asked) * time.Millisecond, nil
}

// enter counts a statement of the project, and refuses one too many.
func (q *queries) enter(uid string) (leave func(), err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.running[uid] >= q.settings.AtOnce {
		e := eider.Errorf(eider.TooManyQueries, "%d statements of the project are running, which is as many as may", q.running[uid])
		e.RetryAfter = time.Second
		return nil, e
	}
	q.running[uid]++
	return sync.OnceFunc(func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.running[uid]--; q.running[uid] == 0 {
			delete(q.running, uid)
		}
	}), nil
}

// begin has a worker begin a statement, and returns once its first rows are there.
func (q *queries) begin(call *operation.Call, r *relay, request wire.Request, progress func(float64, int64)) error {
	leave, err := q.enter(call.Project.UID)
	if err != nil {
		return errors.Join(err, r.Close())
	}
	r.progress = progress
	go func() {
		defer leave()
		r.run(q.tables.databases, projectdb.Of(*call.Project), request)
	}()
	select {
	case <-r.started:
		return nil
	case <-r.done:
		select {
		case <-r.started:
			return nil // it has ended already, and well enough to be told in the answer
		default:
		}
		return errors.Join(r.err, r.Close())
	}
}

// queryAnswer is the answer to a statement whose rows have begun to come.
type queryAnswer struct {
	relay *relay
	form  form
	call  *operation.Call
}

// write sends the rows on as they come.
func (a *queryAnswer) write(ctx context.Context, w io.Writer) error {
	stop := context.AfterFunc(ctx, a.relay.abandon)
	defer stop()
	sent := &lines{w: w}
	err := a.rows(sent)
	if err != nil && a.form.worker == worker.FormLines {
		// The client sees a cut connection too; this tells it why.
		public := operation.Public(err)
		text, _ := json.Marshal(map[string]any{"error": map[string]string{"code": string(public.Code), "message": public.Message}})
		_, _ = sent.Write(sent.line(text)) // it may have left
	}
	return err
}

// lines notes whether what was written ends a line: a long row comes in pieces.
type lines struct {
	w    io.Writer
	open bool
}

func (l *lines) Write(p []byte) (int, error) {
	n, err := l.w.Write(p)
	if n > 0 {
		l.open = p[n-1] != '\n'
	}
	return n, err
}

// line is a line of its own, behind what may be a part of another.
func (l *lines) line(text []byte) []byte {
	if l.open {
		text = append([]byte{'\n'}, text...)
	}
	return append(text, '\n')
}

func (a *queryAnswer) rows(w io.Writer) error {
	asJSON := a.form.worker == worker.FormJSON
	if asJSON {
		columns, err := json.Marshal(a.relay.head.Columns)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, `{"columns":%s,"rows":[`, columns); err != nil {
			return err
		}
	}
	if err := a.relay.copy(w); err != nil {
		return err
	}
	// Of an answer that was cut nobody knows how many rows it had.
	end := a.relay.end
	a.call.Detail("rows", end.Rows)
	if end.Truncated {
		a.call.Detail("truncated", true)
	}
	if asJSON {
		_, err := fmt.Fprintf(w, `],"truncated":%t,"elapsed_ms":%d}`, end.Truncated, time.Since(a.relay.asked).Milliseconds())
		return err
	}
	return nil
}

// accepted returns the form that an Accept header asks for (RFC 9110 section
// 12.5.1): of equal weights the first that is named.
func accepted(header string) (form, error) {
	if header == "" {
		return forms[0], nil
	}
	var best form
	most := 0.0
	for _, part := range strings.Split(header, ",") {
		media, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		weight := 1.0
		if q, ok := params["q"]; ok {
			if weight, err = strconv.ParseFloat(q, 64); err != nil {
				continue
			}
		}
		for _, f := range forms {
			kind, _, _ := strings.Cut(f.mediaType, "/")
			if weight > most && (media == f.mediaType || media == "*/*" || media == kind+"/*") {
				best, most = f, weight
				break
			}
		}
	}
	if most == 0 {
		return form{}, eider.Errorf(eider.NotAcceptable, "the rows can be had as application/json, application/x-ndjson, text/csv or application/vnd.apache.arrow.stream")
	}
	return best, nil
}
