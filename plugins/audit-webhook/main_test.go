package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"reflect"
	"testing"

	plugin "github.com/eiderdb/eider/sdk/go"
)

func TestBatchesAreSignedCloudEvents(t *testing.T) {
	deliver, err := configure(`{"url": "https://siem.example/x", "source": "a \"b\"", "secret": "s3cret", "headers": {"X-Team": "ops"}}`)
	if err != nil {
		t.Fatal(err)
	}
	b := &plugin.Batch{Epoch: 2, FirstID: 101, LastID: 102, Attempt: 3, Rows: []plugin.Row{
		{ID: 101, TimestampUS: 1764225600123456, Operation: "create_project", Status: "success", Resource: plugin.Resource{Type: "project", ID: "sales"}, JSON: `{"id":101}`},
		{ID: 102, TimestampUS: 1764225601000000, Operation: "query", Status: "failed", JSON: `{"id":102}`},
	}}
	if r := deliver(b); r.String() != "retry: no answer: the operator did not grant it" {
		t.Errorf("without a server it answers %s", r)
	}

	w := &webhook{url: "https://siem.example/x", source: `a "b"`, secret: []byte("s3cret"), headers: [][2]string{{"X-Team", "ops"}}}
	body := w.body(b)
	var got []map[string]any
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	want := []map[string]any{
		{"specversion": "1.0", "id": "2-101", "source": `a "b"`, "type": "eider.operation.create_project.success", "subject": "project/sales",
			"time": "2025-11-27T06:40:00.123456Z", "datacontenttype": "application/json", "data": map[string]any{"id": 101.0}},
		{"specversion": "1.0", "id": "2-102", "source": `a "b"`, "type": "eider.operation.query.failed",
			"time": "2025-11-27T06:40:01.000000Z", "datacontenttype": "application/json", "data": map[string]any{"id": 102.0}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the body is %s", body)
	}

	b.Checkpoint = `{"id":102,"hash":"ab","time":"2025-11-27T06:40:01Z","signature":"cd"}`
	var last []map[string]any
	if err := json.Unmarshal(w.body(b), &last); err != nil || len(last) != 3 {
		t.Fatalf("with a checkpoint: %v, %s", err, w.body(b))
	}
	data := map[string]any{"id": 102.0, "hash": "ab", "time": "2025-11-27T06:40:01Z", "signature": "cd"}
	if c := last[2]; c["id"] != "2-checkpoint-102" || c["type"] != "eider.checkpoint" || c["time"] != data["time"] || !reflect.DeepEqual(c["data"], data) {
		t.Errorf("the checkpoint is %v", c)
	}

	mac := hmac.New(sha256.New, []byte("s3cret"))
	mac.Write([]byte("1764225601." + string(body)))
	headers := map[string]string{}
	for _, h := range w.headed(b, body) {
		headers[h[0]] = h[1]
	}
	for name, value := range map[string]string{
		"Eider-Batch": "2/101-102", "Eider-Attempt": "3", "Eider-Timestamp": "1764225601", "X-Team": "ops",
		"Eider-Signature": "sha256=" + hex.EncodeToString(mac.Sum(nil)),
	} {
		if headers[name] != value {
			t.Errorf("%s is %q, want %q", name, headers[name], value)
		}
	}
}

func TestRetryAfterIsKeptTo(t *testing.T) {
	for value, want := range map[string]int64{"7": 7000, "": 0, "-1": 0, "soon": 0} {
		if got := retryAfter(&plugin.HTTPResponse{Headers: [][2]string{{"Retry-After", value}}}); got != want {
			t.Errorf("%q is %d ms, want %d", value, got, want)
		}
	}
}
