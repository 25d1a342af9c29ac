package wasm

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/usage"
)

// web is a host that guests may or may not reach; it counts who came.
type web struct {
	*httptest.Server
	at   string // host:port
	came atomic.Int64
}

func newWeb(t *testing.T, answer http.HandlerFunc) *web {
	t.Helper()
	s := &web{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.came.Add(1)
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	s.at = strings.TrimPrefix(s.URL, "http://")
	return s
}

// ask sends a request as a guest does that speaks JSON.
func ask(t *testing.T, s *sender, request map[string]any) (sentAnswer, int64) {
	t.Helper()
	message, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	text, code := s.send(t.Context(), false, message)
	var a sentAnswer
	if code == 0 {
		if err := json.Unmarshal(text, &a); err != nil {
			t.Fatal(err)
		}
	}
	return a, code
}

func newAsker(t *testing.T, granted, private []string) *sender {
	t.Helper()
	s, err := newSender([]string{"*"}, granted, private)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return s
}

func TestRequestsGoToNamedHostsAlone(t *testing.T) {
	there := newWeb(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Method) })
	_, port, _ := strings.Cut(there.at, ":")
	named := newAsker(t, []string{there.at}, []string{there.at})
	all := newAsker(t, []string{"*"}, nil)
	for _, c := range []struct {
		name string
		by   *sender
		url  string
		want int64
	}{
		{"named", named, there.URL, 0},
		{"named, with a path", named, there.URL + "/a?b=c#d", 0},
		{"another port", named, "http://127.0.0.1:1/", codeNotGranted},
		{"no port", named, "http://127.0.0.1/", codeNotGranted},
		{"another name of it", named, "http://localhost:" + port, codeNotGranted},
		{"another form of it", named, "http://127.1:" + port, codeNotGranted},
		{"a user before it", named, "http://siem@" + there.at, codeNotGranted},
		{"it as a user", named, "http://" + there.at + "@localhost/", codeNotGranted},
		{"a file", named, "file:///etc/hostname", codeNotGranted},
		{"no scheme", named, there.at, codeMalformed},
		{"nothing", named, "", codeNotGranted},
		// Every host is named, none as one that may be private.
		{"loopback", all, there.URL, codeNotGranted},
		{"a name of loopback", all, "http://localhost:" + port, codeNotGranted},
		{"loopback in IPv6", all, "http://[::1]:" + port, codeNotGranted},
		{"loopback in IPv6 of IPv4", all, "http://[::ffff:127.0.0.1]:" + port, codeNotGranted},
		{"any address", all, "http://0.0.0.0:" + port, codeNotGranted},
		{"a private address", all, "http://10.0.0.1:" + port, codeNotGranted},
		{"the cloud's own", all, "http://169.254.169.254/latest/meta-data", codeNotGranted},
		{"within a zone", all, "http://[fe80::1%25lo]:" + port, codeNotGranted},
	} {
		if _, got := ask(t, c.by, map[string]any{"method": "GET", "url": c.url, "timeout_ms": 2000}); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
	if there.came.Load() != 2 {
		t.Errorf("%d requests came", there.came.Load())
	}
	// Manifest and operator must both name it.
	s, err := newSender([]string{"siem.example"}, []string{there.at}, []string{there.at})
	if err != nil {
		t.Fatal(err)
	}
	if _, got := ask(t, s, map[string]any{"method": "GET", "url": there.URL}); got != codeNotGranted {
		t.Errorf("what the manifest does not ask for: %d", got)
	}
}

func TestHostsAreNamedExactly(t *testing.T) {
	s := newAsker(t, []string{"siem.example", "*.Corp.example", "other.example:8443", "[2001:db8::1]:80"}, nil)
	for text, want := range map[string]bool{
		"https://siem.example/x": true, "http://siem.example": true, "https://SIEM.example.": true, "https://siem.example:443": true,
		"https://siem.example:80": false, "https://siem.example:8443": false, "https://xsiem.example": false, "https://siem.example.evil": false,
		"https://a.corp.example": true, "https://a.b.corp.example": true, "https://corp.example": false, "https://acorp.example": false,
		"https://other.example:8443": true, "https://other.example": false, "http://[2001:db8::1]": true, "ftp://siem.example": false,
	} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if s.allowed(u) != want {
			t.Errorf("%s: %v", text, !want)
		}
	}
	for _, text := range []string{"", "a b", "http://siem.example", "a@b", "a:0", "a:99999", "*a.example", "a/b"} {
		if _, err := parseHosts([]string{text}); err == nil {
			t.Errorf("%q is taken for a host", text)
		}
	}
}

func TestRedirectsLeadNowhereElse(t *testing.T) {
	secret := newWeb(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "secret") })
	var here *web
	here = newWeb(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/elsewhere":
			http.Redirect(w, r, secret.URL, http.StatusFound)
		case "/once":
			http.Redirect(w, r, here.URL+"/end", http.StatusFound)
		case "/ever":
			http.Redirect(w, r, here.URL+"/ever", http.StatusFound)
		default:
			fmt.Fprint(w, "the end")
		}
	})
	s := newAsker(t, []string{here.at}, []string{here.at, secret.at})
	for _, c := range []struct {
		method, path string
		want         int64
		status       int
		came         int64
	}{
		{"GET", "/once", 0, 200, 2},
		{"POST", "/once", 0, 302, 1},
		{"GET", "/elsewhere", codeNotGranted, 0, 1},
		{"POST", "/elsewhere", 0, 302, 1},
		{"GET", "/ever", codeFailed, 0, 4},
	} {
		before := here.came.Load()
		a, got := ask(t, s, map[string]any{"method": c.method, "url": here.URL + c.path, "body": "x"})
		if got != c.want || a.Status != c.status || here.came.Load()-before != c.came {
			t.Errorf("%s %s: %d, %d, after %d requests", c.method, c.path, got, a.Status, here.came.Load()-before)
		}
	}
	if secret.came.Load() > 0 {
		t.Error("a host that is not named was reached")
	}
}

func TestRequestsAndAnswersAreBounded(t *testing.T) {
	ended := make(chan struct{})
	there := newWeb(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		switch r.URL.Path {
		case "/large":
			_, _ = w.Write(make([]byte, maxResponse+1))
		case "/limit":
			_, _ = w.Write([]byte(strings.Repeat("x", maxResponse)))
		case "/endless":
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		case "/headers":
			w.Header().Set("X", strings.Repeat("x", 100<<10))
		case "/slow":
			select {
			case <-r.Context().Done():
			case <-ended:
			}
		case "/gzip": // is not unpacked
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write([]byte{0x1f, 0x8b})
		case "/break":
			panic(http.ErrAbortHandler)
		}
	})
	defer close(ended)
	s := newAsker(t, []string{there.at}, []string{there.at})
	large := strings.Repeat("x", maxRequest)
	for _, c := range []struct {
		path    string
		body    string
		headers map[string]string
		method  string
		want    int64
	}{
		{"/", "", nil, "POST", 0},
		{"/", large, nil, "POST", 0},
		{"/", large + "x", nil, "POST", codeLimit},
		{"/limit", "", nil, "GET", 0},
		{"/large", "", nil, "GET", codeLimit},
		{"/endless", "", nil, "GET", codeLimit},
		{"/headers", "", nil, "GET", codeFailed},
		{"/slow", "", nil, "GET", codeFailed},
		{"/gzip", "", nil, "GET", 0},
		{"/break", "", nil, "GET", codeFailed},
		{"/", "", map[string]string{"Host": "other"}, "GET", codeMalformed},
		{"/", "", map[string]string{"X": "a\r\nY: b"}, "GET", codeFailed},
		{"/", "", nil, "G T", codeMalformed},
	} {
		timeout := 5000
		if c.path == "/slow" {
			timeout = 50
		}
		_, got := ask(t, s, map[string]any{"method": c.method, "url": there.URL + c.path, "body": c.body, "headers": c.headers, "timeout_ms": timeout})
		if got != c.want {
			t.Errorf("%s %s with %d bytes, %v: %d, want %d", c.method, c.path, len(c.body), c.headers, got, c.want)
		}
	}
	gone, cancel := context.WithCancel(t.Context()) // the server stops, or the batch is skipped
	cancel()
	if _, got := s.send(gone, false, []byte(`{"method":"GET","url":"`+there.URL+`/slow"}`)); got != codeFailed {
		t.Errorf("after its end: %d", got)
	}
	for _, message := range []string{"", "{", "[]", `{"body_base64":"?"}`} {
		if _, got := s.send(t.Context(), false, []byte(message)); got != codeMalformed {
			t.Errorf("%q: %d", message, got)
		}
	}
}

func TestAddressesThatAreNotPublicAreKnown(t *testing.T) {
	for text, want := range map[string]bool{
		"8.8.8.8": true, "2606:4700::1111": true, "127.0.0.1": false, "10.1.2.3": false, "172.16.0.1": false, "192.168.0.1": false,
		"169.254.169.254": false, "100.64.0.1": false, "0.0.0.0": false, "224.0.0.1": false, "255.255.255.255": false, "198.18.0.1": false,
		"::": false, "::1": false, "::ffff:10.0.0.1": false, "::ffff:8.8.8.8": true, "fe80::1": false, "fc00::1": false, "ff02::1": false,
		"64:ff9b::a00:1": false, "2002:a00:1::": false,
	} {
		if public(netip.MustParseAddr(text)) != want {
			t.Errorf("%s: %v", text, !want)
		}
	}
}

func TestLinesBeyondTheirRateAreCounted(t *testing.T) {
	var mu sync.Mutex
	var said []string
	now := time.Unix(0, 0)
	l := newLines(slog.New(slog.NewTextHandler(writer(func(b []byte) {
		mu.Lock()
		defer mu.Unlock()
		said = append(said, string(b))
	}), nil)), true)
	l.now = func() time.Time { return now }
	passed := 0
	for range 1000 {
		if l.line(1, "flood") {
			passed++
		}
	}
	if passed != lineBurst || len(said) != lineBurst {
		t.Errorf("%d lines passed at once, %d were written", passed, len(said))
	}
	now = now.Add(time.Second)
	passed = 0
	for range 1000 {
		if l.line(3, "flood") {
			passed++
		}
	}
	if passed != lineRate {
		t.Errorf("%d lines passed in a second", passed)
	}
	l.flush()
	text := strings.Join(said, "")
	if !strings.Contains(text, "lines=900") || !strings.Contains(text, "lines=980") {
		t.Errorf("it was not said how many are missing: %s", text[max(0, len(text)-300):])
	}
}

type writer func([]byte)

func (w writer) Write(b []byte) (int, error) { w(b); return len(b), nil }

func TestMetadataIsReadAsItIs(t *testing.T) {
	m := Metadata{
		Project: func(id string) (eider.Project, bool) {
			return eider.Project{ID: id, UID: "u1", Name: "Sales", Status: eider.ProjectActive}, id == "sales"
		},
		Usage: func(_ context.Context, scope string) (usage.Amounts, error) {
			if scope == "broken" {
				return usage.Amounts{}, io.ErrUnexpectedEOF
			}
			return usage.Amounts{Bytes: map[string]int64{"u1": 10, usage.Server: 100}[scope]}, nil
		},
	}
	for question, want := range map[string]string{
		`{"get":"project","id":"sales"}`: `"bytes":10`,
		`{"get":"server"}`:               `"bytes":100`,
		`{"get":"project","id":"none"}`:  "-1",
		`{"get":"keys"}`:                 "-3",
		`{"get":"project"}`:              "-1",
		`nonsense`:                       "-3",
	} {
		text, code := m.read(t.Context(), []byte(question))
		got := string(text)
		if code != 0 {
			got = fmt.Sprint(code)
		}
		if !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", question, got, want)
		}
	}
}
