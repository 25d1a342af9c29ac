package wasm

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/policy"
	"github.com/eiderdb/eider/core/telemetry"
	w "github.com/eiderdb/eider/core/wasm/wasmtest"
)

// FuzzLoad holds that whatever lies in a plugin's folder, loading it ends, and what
// was loaded answers or is replaced.
func FuzzLoad(f *testing.F) {
	const manifest = w.Manifest + "limits: {fuel: 10000, start_fuel: 100000, memory: 1MiB}\n"
	zero := 4
	f.Add(w.Policy(nil, nil), manifest)
	f.Add(w.Policy(w.Answer(`{"decision":"warn"}`), nil), manifest+"when: operation == 'x'\n")
	f.Add(w.Policy(nil, func(m *w.Module) {
		m.Funcs = append(m.Funcs, w.Func{Code: w.Cat(0x03, 0x40, 0x0c, 0, 0x0b)})
		m.Start, m.Globals, m.Data, m.Elements, m.Tables = &zero, 2, 1, 1, []w.Bounds{w.Of(1, 2)}
	}), manifest)
	f.Add(w.Policy(nil, func(m *w.Module) { m.Funcs[3].Locals = 4_294_967_295 }), manifest)
	f.Add(w.Policy(nil, func(m *w.Module) { m.Tail = w.Cat(0, 13, 4, "name", 1, 6, w.U(4_294_967_295), 0) }), manifest)
	f.Add(w.Policy(nil, func(m *w.Module) { m.Tail = w.Cat(11, 8, 1, 1, w.U(4_294_967_295), 0) }), manifest)
	f.Add([]byte("\x00asm\x01\x00\x00\x00"), "name: x\nversion: 1\nabi: 1\nkind: sink\n")
	tel, dir, cache := telemetry.Discard(), f.TempDir(), f.TempDir()
	f.Fuzz(func(t *testing.T, module []byte, manifest string) {
		w.Put(t, dir, module, manifest)
		h, err := New(Options{Cache: cache, Log: slog.New(slog.DiscardHandler), Tracer: tel.Tracer, Meter: tel.Meter, KV: NewKV()},
			[]Item{{Name: "x", Path: dir, Guests: 1}})
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close(context.Background())
		p := h.Plugin("x")
		if p.Load(t.Context()) != nil {
			return
		}
		for range 2 {
			_, _ = p.Decide(t.Context(), &policy.Question{Operation: "x"})
		}
	})
}

// FuzzDecision holds that a guest's answer is either no answer, or one that a caller
// and the log can be given.
func FuzzDecision(f *testing.F) {
	f.Add(false, []byte(`{"decision":"deny","reason":"r","code":"rate_limited","retry_after_ms":9223372036854775807}`))
	f.Add(false, []byte(`{"decision":"warn","reason":"\ud800"}`))
	f.Add(true, []byte("\x01\x01\x02\xe8\x03\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00r"))
	f.Add(true, []byte("\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, flat bool, answer []byte) {
		d, err := decodeDecision(flat, answer)
		if err != nil {
			if d.Deny || d.Warning != nil {
				t.Fatalf("%+v beside %v", d, err)
			}
			return
		}
		if len(d.Reason) > maxReason || !utf8.ValidString(d.Reason) || d.Retry < 0 || d.Deny && len(d.Warning) > 0 {
			t.Fatalf("%+v", d)
		}
		if d.Deny && d.Code != eider.DeniedByPolicy && d.Code != eider.QuotaExceeded && d.Code != eider.RateLimited {
			t.Fatalf("the code %q", d.Code)
		}
	})
}

// FuzzEvent holds that an event which a client makes up is asked about or refused,
// that its JSON says what encoding/json would, and that an expression bears it.
func FuzzEvent(f *testing.F) {
	f.Add(`{"operation":"query","project":null,"input":{"a":[1,2.5,"x",{"b":1e999}]}}`, `has(input.a) && input.a[0] == 1`)
	f.Add(`{"project":{"settings":{"quota":{"bytes":1}}},"usage":{"adds":{"bytes":1}}}`, `project.settings.quota.bytes < usage.adds.bytes`)
	f.Add("{\"operation\":\"\\u0000\\u001f\\\"\\\\\\u2028<é\xff\",\"actor\":{\"name\":\"\\ud800\"}}", "true")
	f.Add(`{"input":"text"}`, `input.matches("t(.*)t") || [1,2].exists(x, x > 1)`)
	f.Fuzz(func(t *testing.T, text, when string) {
		var e Event
		if json.Unmarshal([]byte(text), &e) != nil {
			return
		}
		if _, err := e.encode(true, nil); err != nil {
			t.Logf("%v", err)
		}
		ours, err := e.json(nil)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := json.Marshal(&e)
		if err != nil {
			t.Fatal(err)
		}
		var a, b any
		if err := errors.Join(json.Unmarshal(ours, &a), json.Unmarshal(theirs, &b)); err != nil && !strings.Contains(err.Error(), "cannot unmarshal number") {
			t.Fatalf("%v: %s", err, ours)
		}
		if !reflect.DeepEqual(a, b) {
			t.Fatalf("%s\nis not\n%s", ours, theirs)
		}
		if filter, err := newFilter(Manifest{Kind: Policy, When: when}); err == nil {
			filter.passes(&eventView{e: &e})
		}
	})
}

// An event with parts that are no JSON is refused, not given to a guest.
func TestAnEventThatIsNoJSONIsRefused(t *testing.T) {
	for _, e := range []*Event{{Input: rawJSON(`{"a":`)}, {Project: &EventProject{Settings: rawJSON("{}}")}}} {
		if text, err := e.encode(false, nil); err == nil {
			t.Errorf("it is encoded as %s", text)
		}
	}
}
