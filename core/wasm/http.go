package wasm

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"
)

const (
	maxRequest   = 8 << 20
	maxResponse  = 1 << 20
	maxRedirects = 3
	sendWithin   = 10 * time.Second
)

// sender sends the requests of one plugin: only to hosts that manifest and operator
// both name, and never to an address that is not public unless the operator said so
// of the host. Addresses are looked at when they are dialled, so that a name cannot
// be one thing when it is looked up and another when it is used.
type sender struct {
	asked, granted, private []hostPattern
	client                  *http.Client
	transport               *http.Transport
}

// hostPattern is a host, all below a domain, or every host; port 0 is the
// scheme's own.
type hostPattern struct {
	host string
	port int
	all  bool
	tail bool // host begins with the dot
}

func parseHosts(texts []string) ([]hostPattern, error) {
	var all []hostPattern
	for _, text := range texts {
		if text == "*" {
			all = append(all, hostPattern{all: true})
			continue
		}
		p := hostPattern{host: strings.ToLower(text)}
		if host, port, err := net.SplitHostPort(text); err == nil {
			n, err := strconv.ParseUint(port, 10, 16)
			if err != nil || n == 0 {
				return nil, fmt.Errorf("%q is no host", text)
			}
			p.host, p.port = strings.ToLower(host), int(n)
		}
		p.host = strings.Trim(p.host, "[]")
		if rest, ok := strings.CutPrefix(p.host, "*."); ok {
			p.host, p.tail = "."+rest, true
		}
		if p.host == "" || strings.ContainsAny(p.host, "/@ *?#") {
			return nil, fmt.Errorf("%q is no host", text)
		}
		all = append(all, p)
	}
	return all, nil
}

func named(patterns []hostPattern, host string, port int, standard bool) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	for _, p := range patterns {
		switch {
		case p.all:
			return true
		case p.port != port && (p.port != 0 || !standard):
		case p.tail && strings.HasSuffix(host, p.host), host == p.host:
			return true
		}
	}
	return false
}

func newSender(asked, granted, private []string) (*sender, error) {
	s := &sender{}
	var err error
	for _, list := range []struct {
		name string
		from []string
		into *[]hostPattern
	}{{"http.hosts of the manifest", asked, &s.asked}, {"http_hosts", granted, &s.granted}, {"http_private", private, &s.private}} {
		if *list.into, err = parseHosts(list.from); err != nil {
			return nil, fmt.Errorf("%s: %w", list.name, err)
		}
	}
	s.transport = &http.Transport{
		DialContext: s.dial, ForceAttemptHTTP2: true, MaxIdleConns: 4, MaxConnsPerHost: 8, IdleConnTimeout: 30 * time.Second,
		TLSHandshakeTimeout: 5 * time.Second, MaxResponseHeaderBytes: 64 << 10, DisableCompression: true,
	}
	s.client = &http.Client{Transport: s.transport, CheckRedirect: s.redirect}
	return s, nil
}

func (s *sender) close() { s.transport.CloseIdleConnections() }

var errNotNamed = errors.New("the host is not named")

// allowed reports whether a URL may be asked for.
func (s *sender) allowed(u *url.URL) bool {
	standard := map[string]int{"http": 80, "https": 443}[u.Scheme]
	if standard == 0 || u.Host == "" || u.User != nil {
		return false
	}
	port := standard
	if text := u.Port(); text != "" {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return false
		}
		port = int(n)
	}
	host := u.Hostname()
	return named(s.asked, host, port, port == standard) && named(s.granted, host, port, port == standard)
}

func (s *sender) redirect(r *http.Request, via []*http.Request) error {
	if via[0].Method != http.MethodGet && via[0].Method != http.MethodHead {
		return http.ErrUseLastResponse
	}
	if len(via) > maxRedirects {
		return errors.New("too many redirects")
	}
	if !s.allowed(r.URL) {
		return errNotNamed
	}
	return nil
}

func (s *sender) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return nil, err
	}
	private := named(s.private, host, n, true)
	d := net.Dialer{Timeout: 5 * time.Second, Control: func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		if !private && !public(at.Addr()) {
			return fmt.Errorf("%w: its address is not public", errNotNamed)
		}
		return nil
	}}
	return d.DialContext(ctx, network, address)
}

// special are ranges that netip knows no word for.
var special = func() []netip.Prefix {
	var all []netip.Prefix
	for _, text := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
		"64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "fec0::/10",
	} {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}()

// public reports whether an address is one of the Internet's.
func public(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	for _, p := range special {
		if p.Contains(a) {
			return false
		}
	}
	return true
}

type sentRequest struct {
	Method     string            `json:"method"`
	URL        string            `json:"url"`
	Headers    map[string]string `json:"headers"`
	Body       string            `json:"body"`
	BodyBase64 string            `json:"body_base64"`
	TimeoutMS  int64             `json:"timeout_ms"`

	body []byte
}

type sentAnswer struct {
	Status     int               `json:"status"`
	Headers    map[string]string `json:"headers"`
	Body       string            `json:"body,omitempty"`
	BodyBase64 string            `json:"body_base64,omitempty"`
}

func readRequest(flat bool, b []byte) (r sentRequest, err error) {
	if !flat {
		if err := json.Unmarshal(b, &r); err != nil {
			return r, err
		}
		r.body = []byte(r.Body)
		if r.BodyBase64 != "" {
			r.body, err = base64.StdEncoding.DecodeString(r.BodyBase64)
		}
		return r, err
	}
	f := &flatReader{b: b}
	f.version()
	r.Method, r.URL, r.TimeoutMS = f.text(), f.text(), int64(f.u32())
	n := f.u32()
	r.Headers = map[string]string{}
	for i := uint32(0); i < n && f.err == nil; i++ {
		name := f.text()
		r.Headers[name] = f.text()
	}
	r.body = f.bytes()
	return r, f.err
}

// send sends one request of a guest. It returns the answer in the guest's encoding,
// or a code.
func (s *sender) send(ctx context.Context, flat bool, message []byte) ([]byte, int64) {
	if len(message) > maxRequest+64<<10 {
		return nil, codeLimit
	}
	in, err := readRequest(flat, message)
	if err != nil {
		return nil, codeMalformed
	}
	if len(in.body) > maxRequest {
		return nil, codeLimit
	}
	within := sendWithin
	if in.TimeoutMS > 0 {
		within = min(within, time.Duration(in.TimeoutMS)*time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, in.Method, in.URL, bytes.NewReader(in.body))
	if err != nil {
		return nil, codeMalformed
	}
	if !s.allowed(r.URL) {
		return nil, codeNotGranted
	}
	for name, value := range in.Headers {
		if strings.EqualFold(name, "Host") {
			return nil, codeMalformed
		}
		r.Header.Set(name, value)
	}
	if r.Header.Get("User-Agent") == "" {
		r.Header.Set("User-Agent", "eider")
	}
	got, err := s.client.Do(r)
	if errors.Is(err, errNotNamed) {
		return nil, codeNotGranted
	}
	if err != nil {
		return nil, codeFailed
	}
	defer got.Body.Close()
	body, err := io.ReadAll(io.LimitReader(got.Body, maxResponse+1))
	if err != nil {
		return nil, codeFailed
	}
	if len(body) > maxResponse {
		return nil, codeLimit
	}
	return encodeAnswer(flat, got, body)
}

func encodeAnswer(flat bool, got *http.Response, body []byte) ([]byte, int64) {
	if flat {
		w := flatWriter{[]byte{flatVersion}}
		w.u32(uint32(got.StatusCode))
		w.u32(uint32(len(got.Header)))
		for name := range got.Header {
			w.text(name, strings.ToValidUTF8(got.Header.Get(name), "\uFFFD"))
		}
		w.bytes(body)
		return w.b, 0
	}
	a := sentAnswer{Status: got.StatusCode, Headers: map[string]string{}}
	for name := range got.Header {
		a.Headers[name] = got.Header.Get(name)
	}
	if utf8.Valid(body) {
		a.Body = string(body)
	} else {
		a.BodyBase64 = base64.StdEncoding.EncodeToString(body)
	}
	text, err := json.Marshal(a)
	if err != nil {
		return nil, codeFailed
	}
	return text, 0
}
