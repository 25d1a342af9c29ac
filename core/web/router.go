package web

import (
	"net/url"
	"sort"
	"strings"

	"github.com/eiderdb/eider"
)

// node is a place in the tree of routes, one path segment deep.
type node struct {
	literal map[string]*node
	param   *node
	methods map[string]*endpoint
}

// endpoint is a route: its pattern, the names of its parameters, its handler.
type endpoint struct {
	pattern string
	params  []string
	options RouteOptions
	handler Handler
}

func newNode() *node { return &node{literal: map[string]*node{}, methods: map[string]*endpoint{}} }

// add puts a route into the tree. It panics on one that is there already: a
// mistake in a declaration.
func (n *node) add(method, pattern string, options RouteOptions, h Handler) {
	e := &endpoint{pattern: pattern, options: options, handler: h}
	at := n
	for _, segment := range strings.Split(strings.TrimPrefix(pattern, "/"), "/") {
		if strings.HasPrefix(segment, "{") {
			e.params = append(e.params, strings.Trim(segment, "{}"))
			if at.param == nil {
				at.param = newNode()
			}
			at = at.param
			continue
		}
		if at.literal[segment] == nil {
			at.literal[segment] = newNode()
		}
		at = at.literal[segment]
	}
	if at.methods[method] != nil {
		panic("web: " + method + " " + pattern + " is declared twice")
	}
	at.methods[method] = e
}

// find walks the decoded segments. A literal wins over a parameter, and there is
// a way back where it leads nowhere.
func (n *node) find(segments, values []string) (*node, []string) {
	if len(segments) == 0 {
		if len(n.methods) == 0 {
			return nil, nil
		}
		return n, values
	}
	if next := n.literal[segments[0]]; next != nil {
		if found, v := next.find(segments[1:], values); found != nil {
			return found, v
		}
	}
	if n.param != nil {
		return n.param.find(segments[1:], append(values, segments[0]))
	}
	return nil, nil
}

// endpoint returns what answers a method at this place. GET routes answer HEAD
// where no route of its own does.
func (n *node) endpoint(method string) *endpoint {
	if e := n.methods[method]; e != nil || method != "HEAD" {
		return e
	}
	return n.methods["GET"]
}

// allowed lists the methods of a place, for Allow.
func (n *node) allowed() string {
	var all []string
	for m := range methods {
		if n.endpoint(m) != nil {
			all = append(all, m)
		}
	}
	sort.Strings(all)
	return strings.Join(all, ", ")
}

// segments splits a raw path and decodes each part once. Nothing is collapsed:
// "..", an encoded slash and an empty segment reach validation as they are, and
// never another route.
func segments(target string) ([]string, error) {
	path, _, _ := strings.Cut(target, "?")
	if !strings.HasPrefix(path, "/") {
		var ok bool
		if path, ok = afterAuthority(path); !ok {
			return nil, badPath()
		}
	}
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for i, part := range parts {
		decoded, err := url.PathUnescape(part)
		if err != nil {
			return nil, badPath()
		}
		parts[i] = decoded
	}
	return parts, nil
}

// afterAuthority returns the path of a target in absolute form (RFC 9112 section
// 3.2.2), as raw as it came: url.URL would decode it, and encode it anew with
// fewer slashes encoded.
func afterAuthority(target string) (string, bool) {
	scheme, rest, ok := strings.Cut(target, "://")
	authority, path, _ := strings.Cut(rest, "/")
	if !ok || authority == "" || (!strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https")) {
		return "", false
	}
	return "/" + path, true
}

func badPath() error {
	return eider.Errorf(eider.MalformedRequest, "the path is not a valid one")
}
