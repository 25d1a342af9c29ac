package operation_test

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/schema"
	"github.com/eiderdb/eider/core/waittest"
	"github.com/eiderdb/eider/core/web"
)

// answering is a rig whose operation "answer" ends as its test wants, and
// counts how often it ran. An answer has a secret.
type answering struct {
	*rig
	ran int
	out answer
	err error
}

type answer struct {
	Text   string `json:"text"`
	Secret string `json:"secret,omitempty"`
}

func (a answer) Redacted() any {
	a.Secret = ""
	return a
}

func newAnswering(t *testing.T) *answering {
	t.Helper()
	a := &answering{}
	handle := func(context.Context, *operation.Tx, anything) (answer, error) { a.ran++; return a.out, a.err }
	a.rig = newRig(t, nil, func(_ *rig, s *operation.Set) {
		operation.Write(s, operation.Spec{
			Name: "answer", Route: "POST /answers", Also: []string{"PUT /answers"}, Role: eider.ProjectRead, Target: "answer", Status: 201, Tagged: true,
		}, handle)
		operation.Write(s, operation.Spec{Name: "answer_other", Route: "POST /others", Role: eider.Admin, Target: "answer"}, handle)
		operation.Write(s, operation.Spec{Name: "drop", Route: "DELETE /projects/{id}", Role: eider.Admin, Target: "project"},
			func(ctx context.Context, tx *operation.Tx, _ nameless) (operation.Nothing, error) {
				a.ran++
				p := *operation.From(ctx).Project
				p.Status = eider.ProjectDeleted
				return operation.Nothing{}, a.register.Put(ctx, tx, p)
			})
		operation.Read(s, operation.Spec{Name: "read", Route: "GET /answers", Role: eider.Admin, Target: "answer"},
			func(context.Context, *operation.View, nameless) (answer, error) { a.ran++; return a.out, a.err })
		operation.Write(s, operation.Spec{Name: "upload", Route: "POST /upload", Role: eider.Admin, Target: "answer",
			Streamed: true, Accepts: []schema.Media{schema.Bytes("*/*")}},
			func(context.Context, *operation.Tx, nameless) (answer, error) { a.ran++; return a.out, a.err })
	})
	return a
}

type anything struct {
	Text string `json:"text,omitempty"`
}

// want runs a call and checks that it was answered with the code, by a replay
// or not, and what the log got.
func (a *answering) want(t *testing.T, c call, code eider.Code, replayed bool) *operation.Response {
	t.Helper()
	return a.wantOf(t, c.request(a.Set.Named(c.op)), c.op, code, replayed)
}

func (a *answering) wantOf(t *testing.T, r *operation.Request, op string, code eider.Code, replayed bool) *operation.Response {
	t.Helper()
	ran, before := a.ran, a.Audit.Head().ID
	got, err := a.Do(context.Background(), a.Set.Named(op), r)
	if eider.CodeOf(err) != code || (got != nil && got.Replayed) != replayed {
		t.Errorf("answered %+v, %v; want the code %q, replayed %v", got, err, code, replayed)
	}
	if replayed && (a.ran != ran || a.Audit.Head().ID != before) {
		t.Errorf("a replay ran %d times and left %d rows", a.ran-ran, a.Audit.Head().ID-before)
	}
	if n := a.Held(); n != 0 {
		t.Errorf("%d keys are held", n)
	}
	return got
}

func TestAnswerIsReplayed(t *testing.T) {
	a := newAnswering(t)
	a.out = answer{Text: "<first & only>"}
	c := call{op: "answer", body: `{"text":"x"}`, key: "k"}
	first := a.want(t, c, "", false)
	a.out = answer{Text: "second"}
	for range 2 { // also after a start
		again := a.want(t, c, "", true)
		if again.Status != 201 || string(again.Body) != string(first.Body) || again.ETag != first.ETag || first.ETag == "" {
			t.Errorf("replayed %d %s %s, first %s %s", again.Status, again.Body, again.ETag, first.Body, first.ETag)
		}
		must(t, a.again())
	}
	if a.ran != 1 {
		t.Errorf("it ran %d times", a.ran)
	}
}

func TestRefusalOfTheHandlerIsReplayed(t *testing.T) {
	a := newAnswering(t)
	refusal := &eider.Error{Code: eider.InvalidTransition, Message: "not so", Fields: []eider.FieldError{{Field: "a", Message: "b"}}, Err: errors.New("kept to ourselves")}
	a.err = refusal
	c := call{op: "answer", key: "k"}
	a.want(t, c, eider.InvalidTransition, false)
	a.err = nil
	a.want(t, c, eider.InvalidTransition, true)
	_, err := a.do(c)
	var e *eider.Error
	if !errors.As(err, &e) || e.Message != refusal.Message || len(e.Fields) != 1 || e.Fields[0] != refusal.Fields[0] || e.Err != nil {
		t.Errorf("replayed %+v", e)
	}
}

// Deleting once more answers as the first time, although the project is gone.
func TestReplayComesBeforeTheStatus(t *testing.T) {
	a := newAnswering(t)
	a.project("p", eider.ProjectActive)
	c := call{op: "drop", id: "p", key: "k"}
	a.want(t, c, "", false)
	if again := a.want(t, c, "", true); again.Status != 204 || again.Body != nil {
		t.Errorf("replayed %d %q", again.Status, again.Body)
	}
	a.want(t, call{op: "drop", id: "p"}, eider.NotFound, false)
}

func TestKeyOfAnotherRequestIsAConflict(t *testing.T) {
	a := newAnswering(t)
	first := call{op: "answer", body: `{"text":"x"}`, key: "k"}
	a.want(t, first, "", false)
	other := eider.Actor{Type: eider.ActorKey, ID: "other", Role: eider.Admin}
	put := first.request(a.Set.Named("answer"))
	put.Method = "PUT"
	query := first.request(a.Set.Named("answer"))
	query.Path += "?a=b"
	a.want(t, call{op: "answer", body: `{"text":"y"}`, key: "k"}, eider.IdempotencyConflict, false)
	a.want(t, call{op: "answer_other", body: `{"text":"x"}`, key: "k"}, eider.IdempotencyConflict, false)
	a.wantOf(t, put, "answer", eider.IdempotencyConflict, false)
	a.wantOf(t, query, "answer", eider.IdempotencyConflict, false)
	a.want(t, call{op: "answer", body: `{"text":"y"}`, key: "k", as: &other}, "", false)
	a.want(t, call{op: "read", key: "k"}, "", false) // reads take no keys
	a.want(t, first, "", true)
}

// A body that is not kept in memory is known by its length and by the checksums
// that its headers declare.
func TestStreamedBodiesAreComparedByLengthAndChecksum(t *testing.T) {
	a := newAnswering(t)
	request := func(length int64, digests string) *operation.Request {
		r := call{op: "upload", key: "k"}.request(a.Set.Named("upload"))
		r.Body, r.Length, r.Digests = strings.NewReader("body"), length, digests
		return r
	}
	a.wantOf(t, request(4, "sha-256=:a:"), "upload", "", false)
	a.wantOf(t, request(4, "sha-256=:a:"), "upload", "", true)
	a.wantOf(t, request(5, "sha-256=:a:"), "upload", eider.IdempotencyConflict, false)
	a.wantOf(t, request(4, "sha-256=:b:"), "upload", eider.IdempotencyConflict, false)
}

// While the first call runs the key is taken, for the same request and for
// another.
func TestKeyIsTakenWhileItsCallRuns(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	r := newRig(t, nil, func(_ *rig, s *operation.Set) {
		operation.Effect(s, operation.Spec{Name: "slow", Route: "POST /slow", Role: eider.Admin, Target: "box"},
			operation.Steps[anything, thing, thing]{
				Intent: func(context.Context, *operation.Tx, anything) (thing, error) { return thing{"a", ""}, nil },
				Claims: noClaims,
				Effect: func(context.Context, thing) error {
					close(entered)
					<-leave
					return nil
				},
				Outcome: func(_ context.Context, _ *operation.Tx, plan thing) (thing, error) { return plan, nil },
			})
	})
	c := call{op: "slow", body: `{"text":"x"}`, key: "k"}
	done := make(chan error, 1)
	go func() {
		_, err := r.do(c)
		done <- err
	}()
	<-entered
	_, err := r.do(c)
	var e *eider.Error
	if !errors.As(err, &e) || e.Code != eider.IdempotencyInProgress || e.RetryAfter <= 0 {
		t.Errorf("the same request: %v", err)
	}
	if _, err := r.do(call{op: "slow", body: `{"text":"y"}`, key: "k"}); eider.CodeOf(err) != eider.IdempotencyConflict {
		t.Errorf("another request: %v", err)
	}
	close(leave)
	must(t, <-done)
	if answer, err := r.do(c); err != nil || !answer.Replayed {
		t.Errorf("afterwards: %+v, %v", answer, err)
	}
}

func TestOfManyCallsWithOneKeyOneRuns(t *testing.T) {
	a := newAnswering(t)
	var wg sync.WaitGroup
	errs := make([]error, 32)
	for i := range errs {
		wg.Add(1)
		go func() {
			defer wg.Done()
			_, errs[i] = a.do(call{op: "answer", key: "k"})
		}()
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil && eider.CodeOf(err) != eider.IdempotencyInProgress {
			t.Error(err)
		}
	}
	if a.ran != 1 {
		t.Errorf("it ran %d times", a.ran)
	}
	a.want(t, call{op: "answer", key: "k"}, "", true)
}

// codes returns every code that package eider has.
func codes(t *testing.T) []eider.Code {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "../../errors.go", nil, parser.SkipObjectResolution)
	must(t, err)
	var all []eider.Code
	ast.Inspect(f, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && len(v.Values) == 1 {
			if id, ok := v.Type.(*ast.Ident); ok && id.Name == "Code" {
				code, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
				must(t, err)
				all = append(all, eider.Code(code))
			}
		}
		return true
	})
	if len(all) < 40 {
		t.Fatalf("only %d codes were found", len(all))
	}
	return all
}

// What may pass at another try is not kept, by its status or by what it says.
func TestRefusalsThatMayPassLaterAreNotKept(t *testing.T) {
	a := newAnswering(t)
	never := map[int]bool{401: true, 403: true, 408: true, 423: true, 429: true, 499: true}
	passing := map[eider.Code]bool{
		eider.OperationInProgress: true, eider.UploadInProgress: true, // until the other has ended
		eider.OutOfMemory:    true,                                                         // which others may have had
		eider.BodyIncomplete: true, eider.ChecksumMismatch: true, eider.SizeMismatch: true, // for the bytes that came, which the key does not stand for
	}
	for _, code := range codes(t) {
		kept := !never[web.Status(code)] && web.Status(code) < 500 && !passing[code]
		a.err = eider.Errorf(code, "provoked")
		c := call{op: "answer", key: string(code)}
		a.want(t, c, code, false)
		a.want(t, c, code, kept)
	}
	for _, status := range []int{401, 403, 408, 423, 429, 499, 500, 503, 507} {
		if operation.Kept(&eider.Error{Code: eider.NotFound, Status: status}) {
			t.Errorf("a refusal that is answered with %d is kept", status)
		}
	}
	a.err = errors.New("broken")
	a.want(t, call{op: "answer", key: "broken"}, eider.Internal, false)
	a.want(t, call{op: "answer", key: "broken"}, eider.Internal, false)
	a.err = nil
	a.want(t, call{op: "answer", key: "broken"}, "", false)
}

// A call whose commit failed has used nothing up.
func TestKeyIsFreeAfterAFailedCommit(t *testing.T) {
	a := newAnswering(t)
	c := call{op: "answer", key: "k"}
	a.engine.meets(failing)
	a.want(t, c, eider.StorageUnavailable, false)
	a.engine.meets(nil)
	a.want(t, c, "", false)
	a.want(t, c, "", true)
}

func TestSecretsAreNotKept(t *testing.T) {
	a := newAnswering(t)
	a.out = answer{"open", "hush-hush"}
	c := call{op: "answer", key: "k"}
	if first := a.want(t, c, "", false); !strings.Contains(string(first.Body), "hush-hush") {
		t.Errorf("the first answer is %s", first.Body)
	}
	if again := a.want(t, c, "", true); strings.Contains(string(again.Body), "hush") || !strings.Contains(string(again.Body), "open") {
		t.Errorf("the replay is %s", again.Body)
	}
	_, records, err := a.Records(context.Background())
	must(t, err)
	if all := records + fmt.Sprint(a.rows(0)) + a.log.String(); strings.Contains(all, "hush") {
		t.Errorf("the secret is kept: %s", all)
	}
}

// A longer answer is not kept, but that there was one is.
func TestAnswersAreKeptUpToACap(t *testing.T) {
	a := newAnswering(t)
	frame := len(text(answer{}))
	for size, code := range map[int]eider.Code{operation.MaxStoredAnswer: "", operation.MaxStoredAnswer + 1: eider.IdempotencyConflict} {
		a.out = answer{Text: strings.Repeat("x", size-frame)}
		c := call{op: "answer", key: fmt.Sprint(size)}
		if first := a.want(t, c, "", false); len(first.Body) != size {
			t.Fatalf("the answer has %d bytes, want %d", len(first.Body), size)
		}
		a.want(t, c, code, true)
	}
	a.err = eider.Errorf(eider.ProjectExists, "%s", strings.Repeat("x", operation.MaxStoredAnswer))
	c := call{op: "answer", key: "refused"}
	a.want(t, c, eider.ProjectExists, false)
	a.want(t, c, eider.IdempotencyConflict, true)
}

func TestExpiredKeysAreFreeAndSwept(t *testing.T) {
	ctx := context.Background()
	a := newAnswering(t)
	var expired []string
	for _, key := range []string{"old", "used again", "young"} {
		c := call{op: "answer", key: key}
		a.want(t, c, "", false)
		if key != "young" {
			expired = append(expired, operation.KeyOf(c.request(a.Set.Named("answer"))))
		}
	}
	must(t, a.Expire(ctx, expired...))
	a.want(t, call{op: "answer", key: "used again", body: `{"text":"another"}`}, "", false)
	must(t, a.Sweep(ctx))
	waittest.Until(t, "the old record is swept", func() bool {
		n, _, err := a.Records(ctx)
		return err == nil && n == 2
	})
	must(t, a.Sweeps(ctx, expired...)) // one was used again since it was found
	a.want(t, call{op: "answer", key: "young"}, "", true)
	a.want(t, call{op: "answer", key: "used again", body: `{"text":"another"}`}, "", true)
	a.want(t, call{op: "answer", key: "old"}, "", false)
}
