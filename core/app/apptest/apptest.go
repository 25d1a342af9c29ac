// Package apptest runs a real server for tests: on a loopback port, in a
// temporary folder, with everything that a server has.
package apptest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/eiderdb/eider/core/app"
	"github.com/eiderdb/eider/core/config"
	"github.com/eiderdb/eider/core/telemetry"
	"github.com/eiderdb/eider/core/waittest"
)

// Server is a running server.
type Server struct {
	t    testing.TB
	App  *app.App
	URL  string
	Dir  string
	Root string // the root key

	stop   context.CancelFunc
	served chan error
}

// Start starts a server on dir and stops it with the test. settings are dotted
// names and values, over defaults that suit a test.
func Start(t testing.TB, dir string, o app.Options, settings map[string]string) *Server {
	t.Helper()
	s, err := TryStart(t, dir, o, settings)
	if err != nil {
		t.Fatalf("start the server: %v", err)
	}
	t.Cleanup(func() { s.Stop() })
	return s
}

// TryStart is Start for a server that may refuse to.
func TryStart(t testing.TB, dir string, o app.Options, settings map[string]string) (*Server, error) {
	t.Helper()
	if o.Telemetry == nil {
		o.Telemetry = telemetry.Discard()
	}
	a, err := app.New(o)
	if err != nil {
		return nil, err
	}
	flags := map[string]string{"data_dir": dir, "http.listen": "127.0.0.1:0", "storage.min_free": "1MiB", "storage.ballast": "0"}
	for name, value := range settings {
		flags[name] = value
	}
	if err := a.Load(config.Sources{Flags: flags}); err != nil {
		return nil, err
	}
	if err := a.Open(context.Background()); err != nil {
		return nil, err
	}
	if err := a.Listen(); err != nil {
		return nil, err
	}
	a.Start()
	ctx, stop := context.WithCancel(context.Background())
	s := &Server{t: t, App: a, URL: "http://" + a.Addr().String(), Dir: dir, stop: stop, served: make(chan error, 1)}
	go func() { s.served <- a.Serve(ctx) }()
	key, err := os.ReadFile(filepath.Join(dir, "root.key"))
	if err != nil {
		return nil, err
	}
	s.Root, _, _ = strings.Cut(string(key), "\n")
	return s, nil
}

// Connect returns a server that runs in another process, which is the caller's
// to end: it has no App.
func Connect(t testing.TB, url, dir, root string) *Server {
	return &Server{t: t, URL: url, Dir: dir, Root: root}
}

// Stop ends the server cleanly. It may be called more than once.
func (s *Server) Stop() {
	if s.served == nil {
		return
	}
	s.stop()
	if err := <-s.served; err != nil {
		s.t.Logf("serve: %v", err)
	}
	s.served = nil
	if err := s.App.Close(); err != nil {
		s.t.Logf("close: %v", err)
	}
}

// Answer is what a request got.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
	JSON   map[string]any
}

// Code returns the code of a problem.
func (a Answer) Code() string {
	code, _ := a.JSON["code"].(string)
	return code
}

// Text returns a member of the answer as a text.
func (a Answer) Text(name string) string {
	text, _ := a.JSON[name].(string)
	return text
}

// List returns the objects of an array member.
func (a Answer) List(name string) []map[string]any {
	list, _ := a.JSON[name].([]any)
	var all []map[string]any
	for _, one := range list {
		if object, ok := one.(map[string]any); ok {
			all = append(all, object)
		}
	}
	return all
}

// Try sends a request, "METHOD /path", with a bearer key ("" for none), a body
// ("" for none) and headers "Name: value".
func (s *Server) Try(key, do, body string, headers ...string) (Answer, error) {
	method, path, _ := strings.Cut(do, " ")
	r, err := http.NewRequest(method, s.URL, strings.NewReader(body))
	if err != nil {
		return Answer{}, err
	}
	r.URL.Opaque = path // as it is: nothing is cleaned or encoded
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	answer, err := client.Do(r)
	if err != nil {
		return Answer{}, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	a := Answer{Status: answer.StatusCode, Header: answer.Header, Body: text}
	if len(text) > 0 && strings.Contains(answer.Header.Get("Content-Type"), "json") {
		d := json.NewDecoder(bytes.NewReader(text))
		if decodeErr := d.Decode(&a.JSON); decodeErr != nil && err == nil {
			err = decodeErr
		}
	}
	return a, err
}

var client = &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 600}}

// Do is Try for a request that must be answered.
func (s *Server) Do(key, do, body string, headers ...string) Answer {
	s.t.Helper()
	a, err := s.Try(key, do, body, headers...)
	if err != nil {
		s.t.Fatalf("%s: %v", do, err)
	}
	return a
}

// Want is Do for an answer that must have a status.
func (s *Server) Want(status int, key, do, body string, headers ...string) Answer {
	s.t.Helper()
	a := s.Do(key, do, body, headers...)
	if a.Status != status {
		s.t.Fatalf("%s answered %d, want %d: %s", do, a.Status, status, a.Body)
	}
	return a
}

// Case is one row of a table of requests.
type Case struct {
	Name    string
	As      string // a name in the keys given to Run; "" for no key
	Do      string
	Body    string
	Headers []string
	Status  int
	Code    string   // of a problem
	Log     []string // rows that the request leaves, oldest first: "operation status"
}

// Run sends the requests one after another and compares answers and log rows.
func Run(t *testing.T, s *Server, keys map[string]string, cases []Case) {
	t.Helper()
	for _, c := range cases {
		key, known := keys[c.As]
		if !known && c.As != "" {
			key = c.As
		}
		before := s.App.Kernel.Audit.Head().ID
		a := s.Do(key, c.Do, c.Body, c.Headers...)
		if a.Status != c.Status || a.Code() != c.Code {
			t.Errorf("%s: %s answered %d %s, want %d %s: %s", c.Name, c.Do, a.Status, a.Code(), c.Status, c.Code, a.Body)
		}
		if a.Header.Get("X-Request-Id") == "" {
			t.Errorf("%s: the answer has no request id", c.Name)
		}
		if got := s.Rows(before); c.Log != nil && strings.Join(got, ", ") != strings.Join(c.Log, ", ") {
			t.Errorf("%s: the log got %v, want %v", c.Name, got, c.Log)
		}
	}
}

// Rows returns the rows of the log after an id, oldest first, as "operation
// status".
func (s *Server) Rows(after int64) []string {
	s.t.Helper()
	a := s.Want(200, s.Root, "GET /operations?all_rows=true&limit=1000", "")
	rows := a.List("operations")
	var all []string
	for i := len(rows) - 1; i >= 0; i-- {
		if id, _ := rows[i]["id"].(float64); int64(id) > after {
			all = append(all, rows[i]["operation"].(string)+" "+rows[i]["status"].(string))
		}
	}
	return all
}

// Eventually waits until ok returns true.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	waittest.Until(t, what, ok)
}
