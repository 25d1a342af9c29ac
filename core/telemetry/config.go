package telemetry

import (
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
)

// Config is the section "telemetry".
type Config struct {
	Service     string  `koanf:"service" doc:"service.name of traces and metrics"`
	Traces      string  `koanf:"traces" doc:"off, stdout or otlp"`
	Metrics     string  `koanf:"metrics" doc:"prometheus (at /metrics), otlp, both or off"`
	Endpoint    string  `koanf:"endpoint" doc:"host:port of the OTLP receiver"`
	Protocol    string  `koanf:"protocol" doc:"OTLP over grpc or http"`
	Insecure    bool    `koanf:"insecure" doc:"OTLP without TLS"`
	SampleRatio float64 `koanf:"sample_ratio" doc:"Share of traces that are kept, 0 to 1, where the caller has not decided"`
	LogLevel    string  `koanf:"log_level" doc:"debug, info, warn or error"`
	LogFormat   string  `koanf:"log_format" doc:"json or text"`
}

// Defaults returns the settings that hold where nothing else is said.
func Defaults() Config {
	return Config{
		Service: "eider", Traces: "off", Metrics: "prometheus", Endpoint: "localhost:4317", Protocol: "grpc", Insecure: true,
		SampleRatio: 1, LogLevel: "info", LogFormat: "json",
	}
}

// Validate refuses words that are none of those listed.
func (c *Config) Validate() error {
	for _, v := range []struct {
		name, value string
		words       []string
	}{
		{"traces", c.Traces, []string{"off", "stdout", "otlp"}},
		{"metrics", c.Metrics, []string{"prometheus", "otlp", "both", "off"}},
		{"protocol", c.Protocol, []string{"grpc", "http"}},
		{"log_format", c.LogFormat, []string{"json", "text"}},
		{"log_level", c.LogLevel, []string{"debug", "info", "warn", "error"}},
	} {
		if !slices.Contains(v.words, v.value) {
			return fmt.Errorf("%s must be one of %v", v.name, v.words)
		}
	}
	if !(c.SampleRatio >= 0 && c.SampleRatio <= 1) { // also what is not a number
		return fmt.Errorf("sample_ratio must be between 0 and 1")
	}
	if c.Service == "" {
		return fmt.Errorf("service must not be empty")
	}
	return c.checkEndpoint()
}

// checkEndpoint refuses a URL, above all: the exporters would take it for a host
// and fail at every export, long after the start.
func (c *Config) checkEndpoint() error {
	host, port, err := net.SplitHostPort(c.Endpoint)
	if err == nil && host != "" && !strings.Contains(host, "/") {
		if n, err := strconv.ParseUint(port, 10, 16); err == nil && n > 0 {
			return nil
		}
	}
	return fmt.Errorf("endpoint must be host:port, without a scheme or a path")
}

func (c *Config) level() (level slog.Level, err error) {
	err = level.UnmarshalText([]byte(c.LogLevel))
	return level, err
}
