package web

import (
	"context"
	"net/url"
	"strings"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/operation"
	"github.com/eiderdb/eider/core/schema"
)

// Doors lead from HTTP to the operations.
type Doors struct {
	Pipeline *operation.Pipeline
	// Authenticate returns the actor of an Authorization header.
	Authenticate func(ctx context.Context, header string) (eider.Actor, error)
	// Used is told that an actor of an Authorization header was let in.
	Used func(actor eider.Actor)
	// Verify returns the actor of a signed URL. It is asked for operations that
	// may be called so, where there is no Authorization header.
	Verify func(ctx context.Context, method, target string) (eider.Actor, error)
	// Local is the name of the listener whose callers are local administrators:
	// only who may open its socket file gets there.
	Local string
}

// Mount makes a route of every declared operation.
func (s *Server) Mount(doors *Doors) {
	for _, route := range group(doors.Pipeline.Set) {
		var o RouteOptions
		for _, v := range route.variants {
			o.Watch = o.Watch || v.declared.Slow
			o.Streamed = o.Streamed || v.declared.Streamed
		}
		s.Handle(route.method, route.path, o, func(x *Exchange) error {
			return doors.serve(x, route.choose(x.Query()))
		})
	}
}

// route is a method and a path, and the operations that share them.
type route struct {
	method, path string
	variants     []variant
}

type variant struct {
	query    url.Values // that the request must hold
	declared *operation.Declared
}

func group(set *operation.Set) []*route {
	var all []*route
	found := map[string]*route{}
	for _, d := range set.All() {
		for _, r := range d.Routes() {
			if r[0] == operation.Internal {
				continue
			}
			path, query, _ := strings.Cut(r[1], "?")
			values, err := url.ParseQuery(query)
			if err != nil {
				panic("web: " + d.ID + ": " + err.Error())
			}
			key := r[0] + " " + path
			if found[key] == nil {
				found[key] = &route{method: r[0], path: path}
				all = append(all, found[key])
			}
			found[key].variants = append(found[key].variants, variant{values, d})
		}
	}
	return all
}

// anyValue stands in a declared query for whatever the request has there.
const anyValue = "*"

// choose returns the operation whose query the request holds, else the one that
// asks for none.
func (r *route) choose(query url.Values) *operation.Declared {
	var plain *operation.Declared
	for _, v := range r.variants {
		if len(v.query) == 0 {
			plain = v.declared
			continue
		}
		all := true
		for name := range v.query {
			all = all && query.Has(name) && (v.query.Get(name) == anyValue || query.Get(name) == v.query.Get(name))
		}
		if all {
			return v.declared
		}
	}
	return plain
}

func (d *Doors) serve(x *Exchange, op *operation.Declared) error {
	ctx := x.Context()
	r := &operation.Request{
		Method: x.Method(), Path: x.Target(), RequestID: x.RequestID(), SourceIP: x.SourceIP(), Begun: time.Now(),
		Source: schema.Source{Param: x.Param, Query: x.Query(), Header: x.Header, ContentType: x.Header("Content-Type")},
	}
	var err error
	if r.Actor, err = d.actor(ctx, x, op); err != nil {
		r.Actor = eider.Actor{Type: eider.ActorAnonymous}
		d.Pipeline.Refuse(ctx, op, r, err)
		return err
	}
	if err := prepare(x, op, r); err != nil {
		d.Pipeline.Refuse(ctx, op, r, err)
		return err
	}
	r.Async = op.Async && prefersAsync(x.Header("Prefer"))
	if op.Streamed {
		r.Body, r.Length = x.BodyReader(), x.BodyLength()
		r.Digests = strings.Join([]string{x.Header("Content-Digest"), x.Header("Repr-Digest"), x.Header("Content-Range")}, "\n")
	} else if r.Source.Body, err = x.Body(); err != nil {
		d.Pipeline.Refuse(ctx, op, r, err)
		return err
	}
	answer, err := d.Pipeline.Do(ctx, op, r)
	if answer != nil && answer.Replayed {
		x.SetHeader("Idempotency-Replayed", "true")
		x.SetHeader("X-Idempotency-Replay", "true")
	}
	if err != nil {
		return err
	}
	return write(x, answer)
}

func (d *Doors) actor(ctx context.Context, x *Exchange, op *operation.Declared) (eider.Actor, error) {
	if d.Local != "" && x.Listener() == d.Local {
		return eider.Actor{Type: eider.ActorLocal, ID: "admin.sock", Name: "command", Role: eider.Admin}, nil
	}
	if header := x.Header("Authorization"); header != "" || !op.Signed || d.Verify == nil || !x.Query().Has("signature") {
		actor, err := d.alive(d.Authenticate(ctx, header))
		if err == nil {
			d.Used(actor)
		}
		return actor, err
	}
	actor, err := d.alive(d.Verify(ctx, x.Method(), x.Target()))
	for _, name := range signatureParams {
		x.Query().Del(name) // they are no parameters of the operation
	}
	return actor, err
}

// alive refuses an actor whose project is deleted: its keys are kept, and open
// nothing.
func (d *Doors) alive(actor eider.Actor, err error) (eider.Actor, error) {
	if err != nil || actor.ProjectUID == "" {
		return actor, err
	}
	project, ok := d.Pipeline.Project(actor.ProjectID)
	if !ok || project.UID != actor.ProjectUID || (project.Status != eider.ProjectActive && project.Status != eider.ProjectLocked) {
		return eider.Actor{}, eider.Errorf(eider.Unauthorized, "this API key is not valid")
	}
	return actor, nil
}

// prefersAsync reports whether a Prefer header (RFC 7240) asks for a job.
func prefersAsync(header string) bool {
	for _, one := range strings.Split(header, ",") {
		if name, _, _ := strings.Cut(one, ";"); strings.EqualFold(strings.TrimSpace(name), "respond-async") {
			return true
		}
	}
	return false
}

// signatureParams is what a signed URL has in its query.
var signatureParams = []string{"by", "expires", "key", "signature", "uid"}

// maxIdempotencyKey is the longest key, in bytes.
const maxIdempotencyKey = 255

// prepare reads what stands in the headers of a request that changes something. A
// read has no use for a key, good or bad.
func prepare(x *Exchange, op *operation.Declared, r *operation.Request) (err error) {
	if encoding := x.Header("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return eider.Errorf(eider.UnsupportedMediaType, "the body must not be encoded")
	}
	if !op.Keyed() {
		return nil
	}
	r.IdempotencyKey, err = idempotencyKey(x)
	return err
}

func idempotencyKey(x *Exchange) (string, error) {
	key, other := x.Header("Idempotency-Key"), x.Header("X-Idempotency-Key")
	if key == "" {
		key = other
	}
	if other != "" && other != key {
		return "", eider.Errorf(eider.MalformedRequest, "Idempotency-Key and X-Idempotency-Key differ")
	}
	if len(key) > maxIdempotencyKey {
		return "", eider.Invalid("Idempotency-Key", "must have at most %d characters", maxIdempotencyKey)
	}
	for i := 0; i < len(key); i++ {
		if key[i] < ' ' || key[i] > '~' {
			return "", eider.Invalid("Idempotency-Key", "must be visible ASCII")
		}
	}
	return key, nil
}

func write(x *Exchange, answer *operation.Response) error {
	if len(answer.Warnings) > 0 {
		x.SetHeader("X-Eider-Warning", headerText(strings.Join(answer.Warnings, "; ")))
	}
	if answer.ETag != "" {
		x.SetHeader("ETag", answer.ETag)
		none := x.Header("If-None-Match")
		reads := x.Method() == "GET" || x.Method() == "HEAD"
		if none != "" && reads && operation.MatchesTag(strings.ReplaceAll(none, "W/", ""), answer.ETag) {
			return x.NoContent(304)
		}
	}
	for name, value := range answer.Headers {
		x.SetHeader(name, value)
	}
	if answer.Content != nil {
		return x.content(answer.Content)
	}
	if answer.Body == nil {
		return x.NoContent(answer.Status)
	}
	return x.Bytes(answer.Status, "application/json", answer.Body)
}

// headerText makes a text fit for a header: what is not printable ASCII becomes
// a question mark.
func headerText(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}
