package web

import (
	"net/url"
	"slices"
	"strings"
	"testing"
)

// routes are some of the server's.
func routes() *node {
	n := newNode()
	for _, r := range []string{
		"GET /", "GET /projects", "POST /projects", "GET /projects/{id}", "DELETE /projects/{id}", "GET /projects/{id}/api-keys",
		"DELETE /projects/{id}/api-keys/{key}", "GET /projects/search", "GET /projects/search/{word}/all", "HEAD /uploads/{id}", "GET /uploads/{id}",
	} {
		method, pattern, _ := strings.Cut(r, " ")
		n.add(method, pattern, RouteOptions{}, func(*Exchange) error { return nil })
	}
	return n
}

func match(n *node, method, target string) (pattern string, values []string) {
	parts, err := segments(target)
	if err != nil {
		return "400", nil
	}
	place, values := n.find(parts, nil)
	if place == nil {
		return "404", nil
	}
	if e := place.endpoint(method); e != nil {
		return e.pattern, values
	}
	return "405 " + place.allowed(), nil
}

// What a path parameter holds is for validation to judge. Here it must only never
// lead to another route.
func TestPathIsDecodedOnceAndNeverNormalised(t *testing.T) {
	n := routes()
	for _, c := range []struct {
		request, pattern string
		values           []string
	}{
		{"GET /", "/", nil},
		{"GET /projects", "/projects", nil},
		{"GET /projects?id=/x", "/projects", nil},
		{"GET /projects/", "/projects/{id}", []string{""}},
		{"GET /projects/sales", "/projects/{id}", []string{"sales"}},
		{"GET /projects/sales?x=%zz", "/projects/{id}", []string{"sales"}},
		{"GET /projects/%73ales", "/projects/{id}", []string{"sales"}},
		{"GET /projects/%2e%2e", "/projects/{id}", []string{".."}},
		{"GET /projects/..", "/projects/{id}", []string{".."}},
		{"GET /projects/.", "/projects/{id}", []string{"."}},
		{"GET /projects/a%2Fb", "/projects/{id}", []string{"a/b"}},
		{"GET /projects/a%2Fapi-keys", "/projects/{id}", []string{"a/api-keys"}},
		{"GET /projects/a%252Fb", "/projects/{id}", []string{"a%2Fb"}},
		{"GET /projects/a%00b", "/projects/{id}", []string{"a\x00b"}},
		{"GET /projects/a%0d%0ab", "/projects/{id}", []string{"a\r\nb"}},
		{"GET /projects/%ff", "/projects/{id}", []string{"\xff"}},
		{"GET /projects/a+b", "/projects/{id}", []string{"a+b"}},
		{"GET /projects/a;b=c", "/projects/{id}", []string{"a;b=c"}},
		{"GET /projects/a%3Fb", "/projects/{id}", []string{"a?b"}},
		{"GET /projects/a#b", "/projects/{id}", []string{"a#b"}},
		{`GET /projects/a\b`, "/projects/{id}", []string{`a\b`}},
		{"GET /projects/search", "/projects/search", nil},
		{"GET /projects/s%65arch", "/projects/search", nil},
		{"GET /projects/Search", "/projects/{id}", []string{"Search"}},
		{"GET /projects/search/api-keys", "/projects/{id}/api-keys", []string{"search"}},
		{"GET /projects/search/a/all", "/projects/search/{word}/all", []string{"a"}},
		{"DELETE /projects/search/api-keys/k", "/projects/{id}/api-keys/{key}", []string{"search", "k"}},
		{"DELETE /projects/a/api-keys/", "/projects/{id}/api-keys/{key}", []string{"a", ""}},
		{"DELETE /projects//api-keys/k", "/projects/{id}/api-keys/{key}", []string{"", "k"}},
		{"GET /projects//api-keys", "/projects/{id}/api-keys", []string{""}},
		{"HEAD /projects", "/projects", nil},
		{"HEAD /uploads/u", "/uploads/{id}", []string{"u"}},

		{"GET http://eider/projects/a", "/projects/{id}", []string{"a"}},
		{"GET HTTPS://eider:8080/projects/a%2Fb?x", "/projects/{id}", []string{"a/b"}},
		{`GET http://eider/projects/a%2Fapi-keys"`, "/projects/{id}", []string{`a/api-keys"`}},
		{"GET http://eider", "/", nil},
		{"GET http://eider//projects", "404", nil},

		{"DELETE /projects//api-keys", "405 GET, HEAD", nil},
		{"DELETE /projects", "405 GET, HEAD, POST", nil},
		{"POST /projects/search", "405 GET, HEAD", nil},
		{"GET //", "404", nil},
		{"GET //projects", "404", nil},
		{"GET /projects/../projects", "404", nil},
		{"GET /x/../projects", "404", nil},
		{"GET /projects/a/", "404", nil},
		{"GET /projects/a/api-keys/", "405 DELETE", nil},
		{"GET /%70rojects%2Fa", "404", nil},
		{"GET /Projects", "404", nil},
		{"GET /projects%2F", "404", nil},
		{"GET /projects%3Fx", "404", nil},
		{"GET /projects/%zz", "400", nil},
		{"GET /projects/%", "400", nil},
		{"GET /projects/%2", "400", nil},
		{"GET *", "400", nil},
		{"GET projects", "400", nil},
		{"GET http:///projects", "400", nil},
		{"GET file://eider/projects", "400", nil},
		{"GET eider:8080", "400", nil},
		{"GET ", "400", nil},
	} {
		method, target, _ := strings.Cut(c.request, " ")
		pattern, values := match(n, method, target)
		if pattern != c.pattern || !slices.Equal(values, c.values) {
			t.Errorf("%s is %s %q; want %s %q", c.request, pattern, values, c.pattern, c.values)
		}
	}
}

// The same over the wire: between the socket and the router nothing else decodes.
func TestPathReachesTheHandlerAsItCame(t *testing.T) {
	d := newDoor(t, nil)
	tell := func(x *Exchange) error {
		return x.JSON(200, []string{x.Pattern(), x.Param("id"), x.Param("key"), x.Param("none"), x.Query().Get("q")})
	}
	d.Handle("GET", "/projects/{id}", RouteOptions{}, tell)
	d.Handle("GET", "/projects/{id}/api-keys/{key}", RouteOptions{}, tell)
	d.open(t)
	for target, want := range map[string]string{
		"/projects/%2e%2e":                  `["/projects/{id}","..","","",""]`,
		"/projects/..":                      `["/projects/{id}","..","","",""]`,
		"/projects/a%2Fb?q=c%2Fd+e":         `["/projects/{id}","a/b","","","c/d e"]`,
		"/projects/%00":                     `["/projects/{id}","\u0000","","",""]`,
		"/projects/":                        `["/projects/{id}","","","",""]`,
		"/projects//api-keys/k":             `["/projects/{id}/api-keys/{key}","","k","",""]`,
		"/projects/a%2Fb/api-keys/..?q=%26": `["/projects/{id}/api-keys/{key}","a/b","..","","\u0026"]`,
		"http://other/projects/a%2Fb?q=1":   `["/projects/{id}","a/b","","","1"]`,
	} {
		if a := d.do(t, "GET", target); a.StatusCode != 200 || a.body != want {
			t.Errorf("%s is answered %d %s; want %s", target, a.StatusCode, a.body, want)
		}
	}
	for target, status := range map[string]int{
		"/projects/%zz": 400, "/projects/a?q=%zz": 400, "/projects/a?a;b": 400, "//projects/a": 404, "/projects/a/": 404, "/x/../projects/a": 404,
	} {
		a := d.do(t, "GET", target)
		if p := a.problem(t); a.StatusCode != status {
			t.Errorf("%s is answered %d %s; want %d", target, a.StatusCode, p.Code, status)
		}
	}
	a := d.do(t, "DELETE", "/projects/a")
	if p := a.problem(t); a.StatusCode != 405 || p.Code != "method_not_allowed" || a.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("DELETE is answered %d, Allow %q", a.StatusCode, a.Header.Get("Allow"))
	}
}

func TestHEADAnswersAsGETWithoutItsBody(t *testing.T) {
	d := newDoor(t, nil)
	d.Handle("GET", "/both", RouteOptions{}, text("twelve bytes"))
	d.Handle("GET", "/own", RouteOptions{}, text("get"))
	d.Handle("HEAD", "/own", RouteOptions{}, func(x *Exchange) error {
		x.SetHeader("Upload-Offset", "42")
		return x.NoContent(204)
	})
	d.open(t)
	w := d.dial(t)
	w.send("HEAD /both HTTP/1.1\r\nHost: a\r\n\r\nHEAD /nowhere HTTP/1.1\r\nHost: a\r\n\r\nHEAD /own HTTP/1.1\r\nHost: a\r\n\r\nGET /own HTTP/1.1\r\nHost: a\r\n\r\n")
	if a := w.answer("HEAD"); a.StatusCode != 200 || a.ContentLength != 12 || a.Header.Get("Content-Type") != "text/plain" {
		t.Errorf("answered %d, length %d", a.StatusCode, a.ContentLength)
	}
	if a := w.answer("HEAD"); a.StatusCode != 404 {
		t.Errorf("answered %d", a.StatusCode)
	}
	if a := w.answer("HEAD"); a.StatusCode != 204 || a.Header.Get("Upload-Offset") != "42" {
		t.Errorf("a HEAD route of its own is answered %d %v", a.StatusCode, a.Header)
	}
	if a := w.answer("GET"); a.body != "get" {
		t.Errorf("answered %d %q", a.StatusCode, a.body)
	}
}

func TestRouteThatIsDeclaredTwicePanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("it does not")
		}
	}()
	n := newNode()
	n.add("GET", "/a/{b}", RouteOptions{}, nil)
	n.add("GET", "/a/{c}", RouteOptions{}, nil)
}

// FuzzPath holds that what is matched, put together again, is what came: nothing
// is lost, joined or split on the way.
func FuzzPath(f *testing.F) {
	for _, seed := range []string{
		"/", "/projects", "/projects/", "/projects/a", "/projects/%2e%2e", "/projects/a%2Fb", "/projects//api-keys", "/projects/a/api-keys/k?x=1",
		"//", "/%", "/%zz", "/%00", "http://h/projects/a%2Fb", "*", "", "?", "/projects/search/a/all", "http://h//projects", "/a?b?c#d",
	} {
		f.Add(seed)
	}
	n := routes()
	f.Fuzz(func(t *testing.T, target string) {
		parts, err := segments(target)
		if err != nil {
			return
		}
		escaped := make([]string, len(parts))
		for i, part := range parts {
			escaped[i] = url.PathEscape(part)
		}
		again, err := segments("/" + strings.Join(escaped, "/"))
		if err != nil || !slices.Equal(again, parts) {
			t.Fatalf("%q is %q, and that encoded is %q, %v", target, parts, again, err)
		}
		absolute, err := segments("http://eider" + target)
		if strings.HasPrefix(target, "/") && (err != nil || !slices.Equal(absolute, parts)) {
			t.Fatalf("%q is %q, and in absolute form %q, %v", target, parts, absolute, err)
		}
		place, values := n.find(parts, nil)
		if place == nil {
			return
		}
		for method := range methods {
			e := place.endpoint(method)
			if e == nil {
				continue
			}
			if got := fill(e, values); !slices.Equal(got, parts) {
				t.Fatalf("%q is %q, and %s with %q is %q", target, parts, e.pattern, values, got)
			}
		}
	})
}

// fill puts the values into the pattern.
func fill(e *endpoint, values []string) []string {
	parts := strings.Split(strings.TrimPrefix(e.pattern, "/"), "/")
	for i, part := range parts {
		if strings.HasPrefix(part, "{") {
			parts[i], values = values[0], values[1:]
		}
	}
	return parts
}
