package telemetry

import (
	"fmt"
	"log/slog"
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
	} {
		if !one(v.value, v.words) {
			return fmt.Errorf("%s must be one of %v", v.name, v.words)
		}
	}
	if c.SampleRatio < 0 || c.SampleRatio > 1 {
		return fmt.Errorf("sample_ratio must be between 0 and 1")
	}
	if _, err := c.level(); err != nil {
		return fmt.Errorf("log_level must be one of [debug info warn error]")
	}
	return nil
}

func (c *Config) level() (level slog.Level, err error) {
	err = level.UnmarshalText([]byte(c.LogLevel))
	return level, err
}

func one(value string, words []string) bool {
	for _, w := range words {
		if w == value {
			return true
		}
	}
	return false
}
