package plugin

import (
	"encoding/binary"
	"reflect"
	"testing"
)

// flat is written as docs/plugin-abi.md says, field by field.
type flat []byte

func (f *flat) str(all ...string) *flat {
	for _, s := range all {
		*f = appendStr(*f, s)
	}
	return f
}

func (f *flat) i64(all ...int64) *flat {
	for _, n := range all {
		*f = binary.LittleEndian.AppendUint64(*f, uint64(n))
	}
	return f
}

func (f *flat) raw(b ...byte) *flat { *f = append(*f, b...); return f }

func anEvent() []byte {
	f := &flat{}
	f.raw(1).str("upload_file").i64(17).str("key", "k1", "loader", "project_write", "sales", "file", "")
	f.raw(1).str("sales", "u1", "Sälës", "active", `{"quota":{"bytes":5}}`)
	f.i64(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, -1, -2, -3, -4, 1<<62).str("r1", "::1", "POST", "/x", `{"name":"a"}`)
	return *f
}

func TestEventsAreReadAsTheABIWritesThem(t *testing.T) {
	message := anEvent()
	want := &Event{
		Operation: "upload_file", TimeMS: 17,
		Actor:    Actor{Type: "key", ID: "k1", Name: "loader", Role: "project_write", ProjectID: "sales"},
		Resource: Resource{Type: "file"},
		Project:  &Project{ID: "sales", UID: "u1", Name: "Sälës", Status: "active", Settings: `{"quota":{"bytes":5}}`},
		Usage:    Usage{Amounts{1, 2, 3, 4, 5}, Amounts{6, 7, 8, 9, 10}, Amounts{-1, -2, -3, -4, 1 << 62}},
		Request:  Request{ID: "r1", SourceIP: "::1", Method: "POST", Route: "/x"},
		Input:    `{"name":"a"}`,
	}
	got, err := readEvent(append(message, "of a later version"...))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("read %+v, %v", got, err)
	}
	clear(message)
	if got.Actor.Name != "loader" {
		t.Errorf("the event changed with the buffer that it came in: %+v", got)
	}
}

func TestMessagesThatAreCutShortAreRefused(t *testing.T) {
	message := anEvent()
	for n := range message {
		if e, err := readEvent(message[:n]); err == nil {
			t.Fatalf("%d of %d bytes were read as %+v", n, len(message), e)
		}
	}
	huge := (&flat{}).raw(1).str("s").i64(0, 1, 2).raw(1, 0, 0, 0, 255, 255, 255, 255)
	if _, err := readBatch(*huge); err == nil {
		t.Error("four billion rows were read of nothing")
	}
}

func TestBatchesAreReadAsTheABIWritesThem(t *testing.T) {
	f := (&flat{}).raw(1).str("siem").i64(2, 101, 101).raw(3, 0, 0, 0, 1, 0, 0, 0)
	f.i64(101, 55).str("c", "drop_project", "success", "", "key", "k", "n", "sales", "project", "sales", `{"id":101}`)
	got, err := readBatch(*f)
	want := &Batch{Sink: "siem", Epoch: 2, FirstID: 101, LastID: 101, Attempt: 3, Rows: []Row{{
		ID: 101, TimestampUS: 55, CallID: "c", Operation: "drop_project", Status: "success", Actor: Actor{Type: "key", ID: "k", Name: "n"},
		ProjectID: "sales", Resource: Resource{"project", "sales"}, JSON: `{"id":101}`,
	}}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("read %+v, %v", got, err)
	}
	want.Checkpoint = `{"id":101}`
	if got, err = readBatch(*f.str(`{"id":101}`)); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("with a checkpoint it is %+v, %v", got, err)
	}
	if _, err = readBatch((*f)[:len(*f)-1]); err == nil {
		t.Error("half a checkpoint is read")
	}
}

func TestAnswersAreWrittenAsTheABIReadsThem(t *testing.T) {
	for _, c := range []struct {
		got  []byte
		want *flat
	}{
		{Allow().append(nil), (&flat{}).raw(1, 0, 0).i64(0).str("")},
		{Warn("w").append(nil), (&flat{}).raw(1, 2, 0).i64(0).str("w")},
		{DenyQuota("é").append(nil), (&flat{}).raw(1, 1, 1).i64(0).str("é")},
		{DenyRate("r", 9).append(nil), (&flat{}).raw(1, 1, 2).i64(9).str("r")},
		{OK().append(nil), (&flat{}).raw(1, 0).i64(0).str("")},
		{Retry("no", 7).append(nil), (&flat{}).raw(1, 1).i64(7).str("no")},
	} {
		if string(c.got) != string(*c.want) {
			t.Errorf("wrote %x, want %x", c.got, *c.want)
		}
	}
}

func TestOutsideOfAServerNothingIsGranted(t *testing.T) {
	if _, err := KVAdd("k", 1, 0); err != ErrNotGranted {
		t.Errorf("kv answered %v", err)
	}
	if _, err := HTTP(HTTPRequest{}); err != ErrNotGranted {
		t.Errorf("http answered %v", err)
	}
	if _, err := Now(); err != ErrNotGranted {
		t.Errorf("clock answered %v", err)
	}
}
