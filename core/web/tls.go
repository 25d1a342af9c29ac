package web

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certEvery is how often the files are looked at for a change.
const certEvery = time.Second

// certificate is a certificate that is read again when its files change.
type certificate struct {
	files TLS
	log   *slog.Logger

	mu      sync.Mutex
	pair    *tls.Certificate
	changed [2]time.Time
	checked time.Time
}

func newCertificate(files TLS, log *slog.Logger) (*certificate, error) {
	c := &certificate{files: files, log: log}
	return c, c.load()
}

func (c *certificate) load() error {
	changed := c.times() // before the files are read: a change meanwhile is seen next time
	pair, err := tls.LoadX509KeyPair(c.files.Cert, c.files.Key)
	if err != nil {
		return fmt.Errorf("load the TLS certificate: %w", err)
	}
	c.pair, c.changed = &pair, changed
	return nil
}

func (c *certificate) times() (at [2]time.Time) {
	for i, path := range []string{c.files.Cert, c.files.Key} {
		if info, err := os.Stat(path); err == nil {
			at[i] = info.ModTime()
		}
	}
	return at
}

// get returns the certificate. A new pair that cannot be used leaves the old one
// in its place.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.checked) > certEvery {
		c.checked = time.Now()
		if now := c.times(); now != c.changed {
			if err := c.load(); err != nil {
				c.changed = now // told once for each change
				c.log.Error("the new TLS certificate is not used", "error", err)
			} else {
				c.log.Info("the TLS certificate was read again")
			}
		}
	}
	return c.pair, nil
}

func (c *certificate) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, GetCertificate: c.get}
}
