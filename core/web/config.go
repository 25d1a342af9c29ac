package web

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/eiderdb/eider/core/config"
)

// Config is the section "http".
type Config struct {
	Listen         string          `koanf:"listen" doc:"host:port, or unix:PATH"`
	TLS            TLS             `koanf:"tls"`
	TrustedProxies []string        `koanf:"trusted_proxies" doc:"Addresses or networks whose X-Forwarded-For counts"`
	BodyLimit      config.Size     `koanf:"body_limit" doc:"Largest JSON body"`
	HeaderTimeout  config.Duration `koanf:"header_timeout" doc:"Time to send a request's headers"`
	ReadTimeout    config.Duration `koanf:"read_timeout" doc:"Longest pause inside a request's body"`
	WriteTimeout   config.Duration `koanf:"write_timeout" doc:"Longest pause inside an answer"`
	IdleTimeout    config.Duration `koanf:"idle_timeout" doc:"How long a connection may wait for its next request"`
	DrainTimeout   config.Duration `koanf:"drain_timeout" doc:"Time that running requests have to end at a stop"`
	MaxConnections int             `koanf:"max_connections" doc:"Connections that are served at once; more are refused"`
	MetricsRole    string          `koanf:"metrics_role" doc:"none: /metrics is open; admin: it needs an admin key"`
}

// TLS names the files of a certificate and its key. They are read again when
// they change.
type TLS struct {
	Cert string `koanf:"cert" doc:"PEM file of the certificate chain; empty: no TLS"`
	Key  string `koanf:"key" doc:"PEM file of the private key"`
}

// Defaults returns the settings that hold where nothing else is said.
func Defaults() Config {
	return Config{
		Listen: "127.0.0.1:8080", BodyLimit: 1 << 20, MaxConnections: 10_000, MetricsRole: "none",
		HeaderTimeout: config.Duration(10 * time.Second), ReadTimeout: config.Duration(30 * time.Second),
		WriteTimeout: config.Duration(30 * time.Second), IdleTimeout: config.Duration(2 * time.Minute),
		DrainTimeout: config.Duration(20 * time.Second), TrustedProxies: []string{},
	}
}

// Validate refuses what cannot work.
func (c *Config) Validate() error {
	if err := checkAddress(c.Listen); err != nil {
		return err
	}
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		return fmt.Errorf("tls.cert and tls.key belong together")
	}
	if c.MetricsRole != "none" && c.MetricsRole != "admin" {
		return fmt.Errorf("metrics_role must be none or admin")
	}
	for _, d := range []struct {
		name  string
		value config.Duration
	}{{"header_timeout", c.HeaderTimeout}, {"read_timeout", c.ReadTimeout}, {"write_timeout", c.WriteTimeout}, {"idle_timeout", c.IdleTimeout}} {
		if d.value <= 0 {
			return fmt.Errorf("%s must be more than 0", d.name)
		}
	}
	if c.DrainTimeout < 0 {
		return fmt.Errorf("drain_timeout must not be negative")
	}
	if c.MaxConnections < 1 || c.BodyLimit < 1 {
		return fmt.Errorf("max_connections and body_limit must be at least 1")
	}
	_, err := c.proxies()
	return err
}

// checkAddress refuses what cannot be listened on, wherever that would be tried.
func checkAddress(address string) error {
	if path, isUnix := strings.CutPrefix(address, "unix:"); isUnix {
		if path == "" || len(path) > maxSocketPath {
			return fmt.Errorf("listen: the path of a unix socket must have 1 to %d bytes", maxSocketPath)
		}
		return nil
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("listen must be host:port or unix:PATH")
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("listen: the port must be a number from 0 to 65535")
	}
	return nil
}

// proxies returns the trusted networks.
func (c *Config) proxies() ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, text := range c.TrustedProxies {
		if !strings.Contains(text, "/") {
			addr, err := netip.ParseAddr(text)
			if err != nil {
				return nil, fmt.Errorf("trusted_proxies: %q is neither an address nor a network", text)
			}
			addr = addr.Unmap()
			all = append(all, netip.PrefixFrom(addr, addr.BitLen()))
			continue
		}
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("trusted_proxies: %q is neither an address nor a network", text)
		}
		all = append(all, prefix)
	}
	return all, nil
}
