package operation

import (
	"context"
	"testing"

	"github.com/eiderdb/eider"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

func TestCallsAreCountedByOperationAndHowTheyEnded(t *testing.T) {
	reader := metric.NewManualReader()
	i, err := newInstruments(metric.NewMeterProvider(metric.WithReader(reader)).Meter("test"))
	if err != nil {
		t.Fatal(err)
	}
	get, put := &Call{Operation: &Declared{Spec: Spec{Name: "get"}}}, &Call{Operation: &Declared{Spec: Spec{Name: "put"}}}
	for range 3 {
		i.count(t.Context(), get, nil)
	}
	i.count(t.Context(), put, nil)
	i.count(t.Context(), get, eider.Errorf(eider.NotFound, "no"))
	i.count(t.Context(), get, eider.Errorf(eider.Forbidden, "no"))
	i.count(t.Context(), get, eider.Errorf(eider.Forbidden, "no"))

	counts, calls := collected(t, reader)
	for kind, want := range map[[2]string]int64{
		{"get", "success"}: 3, {"put", "success"}: 1, {"get", "failed"}: 1, {"get", "denied"}: 2,
	} {
		if counts[kind] != want {
			t.Errorf("%v: %d calls were counted, want %d", kind, counts[kind], want)
		}
	}
	if len(counts) != 4 || calls["get"] != 6 || calls["put"] != 1 {
		t.Errorf("counted %v, timed %v", counts, calls)
	}
}

// collected returns the counter by operation and status, and how many durations
// the histogram has by operation.
func collected(t *testing.T, reader *metric.ManualReader) (counts map[[2]string]int64, timed map[string]uint64) {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &all); err != nil {
		t.Fatal(err)
	}
	counts, timed = map[[2]string]int64{}, map[string]uint64{}
	for _, m := range all.ScopeMetrics[0].Metrics {
		switch data := m.Data.(type) {
		case metricdata.Sum[int64]:
			for _, p := range data.DataPoints {
				operation, _ := p.Attributes.Value("operation")
				status, _ := p.Attributes.Value("status")
				counts[[2]string{operation.AsString(), status.AsString()}] = p.Value
			}
		case metricdata.Histogram[float64]:
			for _, p := range data.DataPoints {
				operation, _ := p.Attributes.Value("operation")
				timed[operation.AsString()] += p.Count
			}
		}
	}
	return counts, timed
}
