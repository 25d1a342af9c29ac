// Package telemetry opens traces, metrics and logs: OpenTelemetry, Prometheus
// and slog behind one value.
//
// Nothing here may fail or slow the server: exporters run behind bounded queues,
// and a receiver that is away costs spans, never requests. Instruments keep the
// names they are given as names of Prometheus families.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/otlptranslator"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// scope names the tracer and the meter.
const scope = "github.com/eiderdb/eider"

// cardinality bounds the attribute sets of one instrument.
const cardinality = 4000

// buckets are the bounds of duration histograms, in seconds. A histogram whose
// name does not end so says its own.
var buckets = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

// Telemetry is what the rest of the server reports to.
type Telemetry struct {
	Log    *slog.Logger
	Tracer trace.Tracer
	Meter  metric.Meter

	registry    *prometheus.Registry
	closers     []func(context.Context) error
	closeWithin time.Duration
}

// Open starts what the config asks for. Logs and, if asked for, traces go to
// out. It connects to nobody: a receiver may come later.
func Open(ctx context.Context, c Config, version string, out io.Writer) (*Telemetry, error) {
	out = &shared{out: out}
	log, err := newLogger(c, out)
	if err != nil {
		return nil, err
	}
	t := &Telemetry{Log: log, Tracer: noop.NewTracerProvider().Tracer(scope), closeWithin: closeWithin}
	// The SDK has one place for its own errors, and its default writes to
	// stderr without end.
	otel.SetErrorHandler(&losses{log: log})
	about := resource.NewSchemaless(
		attribute.String("service.name", c.Service), attribute.String("service.version", version))
	if err := errors.Join(t.openTraces(ctx, c, about, out), t.openMetrics(ctx, c, about)); err != nil {
		return nil, errors.Join(err, t.Close(ctx))
	}
	return t, nil
}

func (t *Telemetry) openTraces(ctx context.Context, c Config, about *resource.Resource, out io.Writer) error {
	var exporter sdktrace.SpanExporter
	var err error
	switch {
	case c.Traces == "off":
		return nil
	case c.Traces == "stdout":
		exporter, err = stdouttrace.New(stdouttrace.WithWriter(out))
	case c.Protocol == "http":
		options := []otlptracehttp.Option{otlptracehttp.WithEndpoint(c.Endpoint)}
		if c.Insecure {
			options = append(options, otlptracehttp.WithInsecure())
		}
		exporter, err = otlptracehttp.New(ctx, options...)
	default:
		options := []otlptracegrpc.Option{otlptracegrpc.WithEndpoint(c.Endpoint)}
		if c.Insecure {
			options = append(options, otlptracegrpc.WithInsecure())
		}
		exporter, err = otlptracegrpc.New(ctx, options...)
	}
	if err != nil {
		return fmt.Errorf("open the trace exporter: %w", err)
	}
	t.trace(sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter, sdktrace.WithBatchTimeout(time.Second)),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(c.SampleRatio))),
		sdktrace.WithResource(about)))
	return nil
}

func (t *Telemetry) trace(p *sdktrace.TracerProvider) {
	t.Tracer = p.Tracer(scope)
	t.closers = append(t.closers, p.Shutdown)
}

func (t *Telemetry) openMetrics(ctx context.Context, c Config, about *resource.Resource) error {
	options := []sdkmetric.Option{
		sdkmetric.WithResource(about), sdkmetric.WithCardinalityLimit(cardinality),
		sdkmetric.WithView(sdkmetric.NewView(
			sdkmetric.Instrument{Name: "*_seconds", Kind: sdkmetric.InstrumentKindHistogram},
			sdkmetric.Stream{Aggregation: sdkmetric.AggregationExplicitBucketHistogram{Boundaries: buckets}})),
	}
	if c.Metrics == "prometheus" || c.Metrics == "both" {
		reader, err := t.prometheus()
		if err != nil {
			return err
		}
		options = append(options, sdkmetric.WithReader(reader))
	}
	if c.Metrics == "otlp" || c.Metrics == "both" {
		exporter, err := otlpMetrics(ctx, c)
		if err != nil {
			return fmt.Errorf("open the metric exporter: %w", err)
		}
		options = append(options, sdkmetric.WithReader(sdkmetric.NewPeriodicReader(exporter, sdkmetric.WithInterval(15*time.Second))))
	}
	p := sdkmetric.NewMeterProvider(options...)
	t.Meter = p.Meter(scope)
	t.closers = append(t.closers, p.Shutdown)
	return nil
}

func otlpMetrics(ctx context.Context, c Config) (sdkmetric.Exporter, error) {
	if c.Protocol == "http" {
		options := []otlpmetrichttp.Option{otlpmetrichttp.WithEndpoint(c.Endpoint)}
		if c.Insecure {
			options = append(options, otlpmetrichttp.WithInsecure())
		}
		return otlpmetrichttp.New(ctx, options...)
	}
	options := []otlpmetricgrpc.Option{otlpmetricgrpc.WithEndpoint(c.Endpoint)}
	if c.Insecure {
		options = append(options, otlpmetricgrpc.WithInsecure())
	}
	return otlpmetricgrpc.New(ctx, options...)
}

func (t *Telemetry) prometheus() (sdkmetric.Reader, error) {
	t.registry = prometheus.NewRegistry()
	t.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	reader, err := otelprom.New(otelprom.WithRegisterer(t.registry), otelprom.WithTranslationStrategy(otlptranslator.UnderscoreEscapingWithoutSuffixes),
		otelprom.WithoutScopeInfo(), otelprom.WithoutTargetInfo())
	if err != nil {
		return nil, fmt.Errorf("open the Prometheus exporter: %w", err)
	}
	return reader, nil
}

// WriteMetrics writes every family in the form that the Accept header asks for,
// and returns its content type.
func (t *Telemetry) WriteMetrics(w io.Writer, accept string) (string, error) {
	header := map[string][]string{"Accept": {accept}}
	format := expfmt.NegotiateAccept(header, expfmt.DefaultOpenMetricsAcceptedFormats()...)
	families, err := t.gather()
	if err != nil {
		return "", fmt.Errorf("gather metrics: %w", err)
	}
	encoder := expfmt.NewEncoder(w, format)
	for _, f := range families {
		if err := encoder.Encode(f); err != nil {
			return "", fmt.Errorf("write metrics: %w", err)
		}
	}
	if closer, ok := encoder.(expfmt.Closer); ok {
		err = closer.Close()
	}
	return string(format), err
}

// gather returns every family, none where metrics are not for Prometheus.
func (t *Telemetry) gather() ([]*dto.MetricFamily, error) {
	if t.registry == nil {
		return nil, nil
	}
	return t.registry.Gather()
}

// tellEvery is how often at most the log tells of telemetry that was lost.
const tellEvery = time.Minute

// losses tells the log of the SDK's errors. A receiver that is away fails every
// second, and must not fill the log.
type losses struct {
	log *slog.Logger

	mu     sync.Mutex
	told   time.Time
	untold int // since then
}

// Handle logs the error or counts it.
func (l *losses) Handle(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.told) < tellEvery {
		l.untold++
		return
	}
	l.log.Warn("telemetry was lost", "error", err, "untold", l.untold)
	l.told, l.untold = time.Now(), 0
}

// closeWithin bounds how long a receiver that is away can hold the shutdown up.
const closeWithin = 3 * time.Second

// Close sends what is queued, within three seconds. Traces and metrics are sent
// at the same time, so that one receiver that hangs does not take the other's
// time.
func (t *Telemetry) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), t.closeWithin)
	defer cancel()
	failed := make([]error, len(t.closers))
	var wg sync.WaitGroup
	for i, c := range t.closers {
		wg.Go(func() { failed[i] = c(ctx) })
	}
	wg.Wait()
	return errors.Join(failed...)
}

// shared lets spans and log lines go to one writer, whole line by whole line.
type shared struct {
	mu  sync.Mutex
	out io.Writer
}

func (s *shared) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Write(p)
}

// Discard reports nowhere; its metrics can still be written. It is for commands
// and tests.
func Discard() *Telemetry {
	t := &Telemetry{Log: slog.New(slog.DiscardHandler), Tracer: noop.NewTracerProvider().Tracer(scope), closeWithin: closeWithin}
	c := Defaults()
	if err := t.openMetrics(context.Background(), c, resource.Empty()); err != nil {
		panic(err) // its own registry: nothing can be registered twice
	}
	return t
}

// Record is Discard with every finished span given to the processor.
func Record(spans sdktrace.SpanProcessor) *Telemetry {
	t := Discard()
	t.trace(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)))
	return t
}
