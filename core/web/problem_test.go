package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/eiderdb/eider"
)

// codes reads the codes that the root package declares.
func declaredCodes(t *testing.T) map[eider.Code]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../../errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	all := map[eider.Code]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); !ok || kind.Name != "Code" {
			return true
		}
		for i, name := range spec.Names {
			value, err := strconv.Unquote(spec.Values[i].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			all[eider.Code(value)] = name.Name
		}
		return true
	})
	return all
}

func TestEveryCodeHasAStatus(t *testing.T) {
	declared := declaredCodes(t)
	if len(declared) < 30 {
		t.Fatalf("only %d codes are found", len(declared))
	}
	for code, name := range declared {
		status, ok := statuses[code]
		if !ok || status < 400 || status > 599 || title(status) == "" || title(status) == "Unknown Status Code" {
			t.Errorf("%s has the status %d, %q", name, status, title(status))
		}
	}
	for code := range statuses {
		if declared[code] == "" {
			t.Errorf("the code %s has a status, and is not declared", code)
		}
	}
	if Status("never_heard_of") != 500 {
		t.Error("a code that is unknown is not answered 500")
	}
}

func TestErrorBecomesAProblem(t *testing.T) {
	d := newDoor(t, nil)
	var given error
	d.Handle("GET", "/fail", RouteOptions{}, func(x *Exchange) error {
		x.SetHeader("Cache-Control", "max-age=3600")
		_ = x.Bytes(200, "text/plain", []byte("half an answer")) // which the error replaces
		return given
	})
	d.open(t)
	denied := &eider.Error{
		Code: eider.DeniedByPolicy, Message: "not today", Plugin: "quota", Reason: "full", DecisionID: "d1",
		Fields: []eider.FieldError{{Field: "id", Message: "is taken"}}, Err: errors.New("secret"),
	}
	for _, c := range []struct {
		name   string
		err    error
		status int
		code   eider.Code
		detail string
		header map[string]string
	}{
		{"a refusal", eider.Errorf(eider.NotFound, "no project %q", "<a>"), 404, eider.NotFound, `no project "<a>"`, nil},
		{"a refusal with a cause", denied, 403, eider.DeniedByPolicy, "not today", nil},
		{"a wrapped refusal", fmt.Errorf("open /secret/path: %w", denied), 403, eider.DeniedByPolicy, "not today", nil},
		{"no key", eider.Errorf(eider.Unauthorized, "no key"), 401, eider.Unauthorized, "no key", map[string]string{"Www-Authenticate": "Bearer"}},
		{"wait", &eider.Error{Code: eider.RateLimited, Message: "slowly", RetryAfter: 1500 * time.Millisecond}, 429, eider.RateLimited, "slowly", map[string]string{"Retry-After": "2"}},
		{"wait a moment", &eider.Error{Code: eider.IdempotencyInProgress, Message: "soon", RetryAfter: time.Millisecond}, 409, eider.IdempotencyInProgress, "soon", map[string]string{"Retry-After": "1"}},
		{"anything else", errors.New("SELECT secret FROM /secret/path"), 500, eider.Internal, "something went wrong in the server; the request id finds it in the log", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			given = c.err
			a := d.do(t, "GET", "/fail?token=secret", "X-Request-Id: the-id")
			p := a.problem(t)
			if a.StatusCode != c.status || p.Code != c.code || p.Detail != c.detail || p.Title != http.StatusText(c.status) ||
				p.Instance != "/fail" || p.RequestID != "the-id" || p.Type != "about:blank" {
				t.Errorf("answered %d %s", a.StatusCode, a.body)
			}
			if strings.Contains(a.body, "secret") || strings.Contains(a.body, "half") {
				t.Errorf("the answer tells %s", a.body)
			}
			for name, want := range map[string]string{"Www-Authenticate": "", "Retry-After": ""} {
				if w, ok := c.header[name]; ok {
					want = w
				}
				if got := a.Header.Get(name); got != want {
					t.Errorf("%s is %q; want %q", name, got, want)
				}
			}
		})
	}
	given = denied
	var members map[string]any
	if err := json.Unmarshal([]byte(d.do(t, "GET", "/fail").body), &members); err != nil {
		t.Fatal(err)
	}
	if members["plugin"] != "quota" || members["reason"] != "full" || members["decision_id"] != "d1" ||
		fmt.Sprint(members["errors"]) != "[map[field:id message:is taken]]" {
		t.Errorf("the policy's members are %v", members)
	}
	given = eider.Errorf(eider.NotFound, "no")
	members = nil
	if err := json.Unmarshal([]byte(d.do(t, "GET", "/fail").body), &members); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"plugin", "reason", "decision_id", "errors"} {
		if _, there := members[name]; there {
			t.Errorf("%s is there with nothing to say", name)
		}
	}
}

func TestUnknownErrorIsInTheLogWithItsRequest(t *testing.T) {
	d := newDoor(t, nil)
	d.Handle("GET", "/fail", RouteOptions{}, func(*Exchange) error { return errors.New("the cause of it") })
	d.Handle("GET", "/panic", RouteOptions{}, func(x *Exchange) error {
		var none *eider.Error
		return x.JSON(200, none.Code)
	})
	d.Handle("GET", "/refuse", RouteOptions{}, func(*Exchange) error { return eider.Errorf(eider.NotFound, "no").Because(errors.New("unsaid")) })
	d.open(t)
	w := d.dial(t)
	for range 2 { // the connection outlives both
		for path, status := range map[string]int{"/fail": 500, "/panic": 500, "/refuse": 404} {
			w.send("GET " + path + " HTTP/1.1\r\nHost: a\r\n\r\n")
			a := w.answer("GET")
			if p := a.problem(t); a.StatusCode != status || strings.Contains(a.body, "cause of it") || strings.Contains(a.body, "nil pointer") {
				t.Errorf("%s is answered %d %+v", path, a.StatusCode, p)
			}
		}
	}
	for _, word := range []string{"the cause of it", "nil pointer", "stack=", "problem_test.go"} {
		if !strings.Contains(d.log.String(), word) {
			t.Errorf("the log lacks %q", word)
		}
	}
	if strings.Contains(d.log.String(), "unsaid") {
		t.Error("a refusal that was told is an error in the log")
	}
}
