package web

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/eiderdb/eider/core/waittest"
)

// pair is a certificate for 127.0.0.1 and its key, in files.
type pair struct {
	files TLS
	cert  *x509.Certificate
}

func newPair(t testing.TB) *pair {
	t.Helper()
	dir := t.TempDir()
	p := &pair{files: TLS{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}}
	p.renew(t, 1)
	return p
}

// renew writes another certificate with the number over the one before.
func (p *pair) renew(t testing.TB, number int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(number), Subject: pkix.Name{CommonName: "eider"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if p.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	p.write(t, p.files.Cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), number)
	p.write(t, p.files.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), number)
}

// write gives each version of a file a time of its own, however coarse the file
// system's clock is.
func (p *pair) write(t testing.TB, path string, data []byte, number int64) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(time.Duration(number) * time.Minute)
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

func (p *pair) client() *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(p.cert)
	return &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"}
}

// shown returns the number of the certificate that a new connection is shown.
func (d *door) shown(t testing.TB) int64 {
	t.Helper()
	c, err := tls.Dial("tcp", d.addr, &tls.Config{InsecureSkipVerify: true}) // the number is all that is asked
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

func TestCertificateIsReadAgainWhenItChanges(t *testing.T) {
	p := newPair(t)
	d := newDoor(t, func(c *Config) { c.TLS = p.files }).open(t)
	if n := d.shown(t); n != 1 {
		t.Fatalf("the first certificate is number %d", n)
	}
	p.renew(t, 2)
	waittest.Until(t, "the second certificate is shown", func() bool { return d.shown(t) == 2 })

	p.write(t, p.files.Key, []byte("no key"), 3)
	waittest.Until(t, "the log says that the pair is not used", func() bool {
		if n := d.shown(t); n != 2 {
			t.Fatalf("certificate %d is shown beside a broken key", n)
		}
		return strings.Contains(d.log.String(), "the new TLS certificate is not used")
	})
	p.renew(t, 4)
	waittest.Until(t, "the fourth certificate is shown", func() bool { return d.shown(t) == 4 })
}

func TestListenWithABrokenCertificateFails(t *testing.T) {
	p := newPair(t)
	p.write(t, p.files.Key, []byte("no key"), 1)
	d := newDoor(t, func(c *Config) { c.TLS = p.files })
	defer d.Shutdown()
	if err := d.Listen("public", "127.0.0.1:0", ListenOptions{TLS: true}); err == nil {
		t.Error("it listens")
	}
}

func TestTLSIsNew(t *testing.T) {
	p := newPair(t)
	d := newDoor(t, func(c *Config) { c.TLS = p.files })
	d.Handle("POST", "/echo", RouteOptions{}, echo)
	d.open(t)
	if c, err := tls.Dial("tcp", d.addr, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}); err == nil {
		c.Close()
		t.Error("TLS 1.1 is accepted")
	}
	// HTTP/2 is offered by the client, and is not what it gets.
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: p.client(), ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	response, err := client.Post("https://"+d.addr+"/echo", "text/plain", strings.NewReader(strings.Repeat("a", 100_000)))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.ProtoMajor != 1 || len(body) != 100_000 {
		t.Errorf("HTTP/%d, %d bytes, %v", response.ProtoMajor, len(body), err)
	}
}

// Over TLS too, a client that still sends sees why nobody wants it, and a body
// that is cut is not whole.
func TestTLSRefusalIsSeen(t *testing.T) {
	p := newPair(t)
	d := newDoor(t, func(c *Config) { c.TLS = p.files })
	d.Handle("POST", "/echo", RouteOptions{}, echo)
	d.open(t)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: p.client()}}
	defer client.CloseIdleConnections()
	for range 5 {
		response, err := client.Post("https://"+d.addr+"/echo", "text/plain", strings.NewReader(strings.Repeat("a", 16<<20)))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != 413 {
			t.Errorf("answered %d", response.StatusCode)
		}
	}
	w := newWire(t, tls.Client(d.dial(t).Conn, p.client()))
	w.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
	if err := w.Conn.(*tls.Conn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if a := w.answer("POST"); a.problem(t).Code != "body_incomplete" {
		t.Errorf("a body that is cut is answered %d %s", a.StatusCode, a.body)
	}
}
