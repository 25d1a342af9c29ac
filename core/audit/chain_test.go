package audit

import (
	"bytes"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"reflect"
	"testing"
	"time"
)

func golden() Row {
	return Row{
		ID: 7, CallID: "call", Time: time.Date(2026, 11, 24, 23, 1, 2, 345678999, time.UTC), RequestID: "request", TraceID: "trace",
		ActorType: "key", ActorID: "k1", ActorName: "Zoë", SourceIP: "192.0.2.1", ProjectID: "sales", ProjectUID: "uid",
		Operation: "create_project", ResourceType: "project", ResourceID: "sales", Details: `{"a": 1}`,
		Duration: 1234567 * time.Nanosecond, Status: "success", Code: "code", Error: "error", Decision: `{"plugin":"x"}`,
		IntentID: 6, Count: 1, PrevHash: bytes.Repeat([]byte{0xab}, 32),
	}
}

// TestTheCanonicalRowNeverChanges holds the format; the hashes were worked out
// apart from this code, from the words above Row.hash. If it fails, rows that were
// written before do not verify any more: a new form needs a new version byte.
func TestTheCanonicalRowNeverChanges(t *testing.T) {
	full, empty := golden(), Row{}
	for _, c := range []struct {
		name string
		row  Row
		want string
	}{
		{"full", full, "c954a21eb68fee79e170e8f6cb4a916ec2864606cf1c9c4972408b21ebc5d6f3"},
		{"empty", empty, "f53f76aa99f2b721ee8a57019d273052ebf2e102baa77d6b8c6edce7a00cc572"},
	} {
		if got := hex.EncodeToString(c.row.hash()); got != c.want {
			t.Errorf("the hash of the %s row is %s, want %s", c.name, got, c.want)
		}
	}
}

// TestEveryFieldChangesTheHash walks the fields by reflection, so that one that
// is added later cannot be forgotten.
func TestEveryFieldChangesTheHash(t *testing.T) {
	before := golden()
	seen := map[string]string{hex.EncodeToString(before.hash()): "none"}
	for i := range reflect.TypeFor[Row]().NumField() {
		name := reflect.TypeFor[Row]().Field(i).Name
		if name == "Hash" || name == "holed" { // which no row is that was written
			continue
		}
		changed := golden()
		field := reflect.ValueOf(&changed).Elem().Field(i)
		switch v := field.Interface().(type) {
		case time.Time:
			field.Set(reflect.ValueOf(v.Add(time.Microsecond)))
		case time.Duration:
			field.SetInt(int64(v + time.Microsecond))
		case int64:
			field.SetInt(v + 1)
		case []byte:
			field.Set(reflect.ValueOf(append([]byte{1}, v[1:]...)))
		default:
			field.SetString(field.String() + " ")
		}
		hash := hex.EncodeToString(changed.hash())
		if other, taken := seen[hash]; taken {
			t.Errorf("a row with another %s has the hash of one with another %s", name, other)
		}
		seen[hash] = name
	}
}

// TestTextMovedToTheNextFieldChangesTheHash is why fields carry their length.
func TestTextMovedToTheNextFieldChangesTheHash(t *testing.T) {
	a, b := golden(), golden()
	a.RequestID, a.TraceID = "ab", "c"
	b.RequestID, b.TraceID = "a", "bc"
	if bytes.Equal(a.hash(), b.hash()) {
		t.Error("two rows have one hash")
	}
}

func TestWhatTheDatabaseRoundsIsNotHashed(t *testing.T) {
	exact, rounded := golden(), golden()
	rounded.Time = time.UnixMicro(exact.Time.UnixMicro())
	rounded.Duration = rounded.Duration.Truncate(time.Microsecond)
	if !bytes.Equal(exact.hash(), rounded.hash()) {
		t.Error("nanoseconds or the zone change the hash")
	}
}

// TestEveryColumnIsWrittenAndRead keeps values, columns and scan together.
func TestEveryColumnIsWrittenAndRead(t *testing.T) {
	want := golden()
	want.Hash = want.hash()
	values := want.values()
	if len(values) != len(spec.Columns) {
		t.Fatalf("%d values for %d columns", len(values), len(spec.Columns))
	}
	got, err := scanRow(func(dest ...any) error {
		for i := range dest {
			if null, ok := dest[i].(sql.Scanner); ok {
				if err := null.Scan(values[i]); err != nil {
					return err
				}
				continue
			}
			to := reflect.ValueOf(dest[i]).Elem()
			to.Set(reflect.ValueOf(values[i]).Convert(to.Type()))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want.Duration = want.Duration.Truncate(time.Microsecond)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("read back %+v, want %+v", got, want)
	}
}

func TestARowIsShownWhateverItsTextsHold(t *testing.T) {
	for _, c := range []struct{ details, decision, want, wantDecision string }{
		{"", "", `{}`, ``},
		{`{"a":1}`, `{"plugin":"x"}`, `{"a":1}`, `{"plugin":"x"}`},
		{`{"a":`, `nonsense`, `"{\"a\":"`, `"nonsense"`},
	} {
		r := Row{Details: c.details, Decision: c.decision}
		shown := r.API()
		if string(shown.Details) != c.want || string(shown.Decision) != c.wantDecision {
			t.Errorf("%q and %q are shown as %s and %s", c.details, c.decision, shown.Details, shown.Decision)
		}
		if _, err := json.Marshal(shown); err != nil {
			t.Errorf("%q: %v", c.details, err)
		}
	}
}
