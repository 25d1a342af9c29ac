package metadatatest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/eiderdb/eider/core/metadata"
	"pgregory.net/rapid"
)

// stored reads a thing back as it would be given to Commit.
func stored(e metadata.Engine, id string) ([]any, error) {
	rows, err := e.Query(context.Background(), `SELECT id, n, ok, happened, raw, note FROM things WHERE id = $1`, id)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	if !rows.Next() {
		return nil, errors.Join(errors.New("the row is not there"), rows.Err())
	}
	var key, note *string
	var n *int64
	var ok *bool
	var at *time.Time
	var raw []byte
	if err := rows.Scan(&key, &n, &ok, &at, &raw, &note); err != nil {
		return nil, err
	}
	row := []any{nil, nil, nil, nil, nil, nil}
	if key != nil {
		row[0] = *key
	}
	if n != nil {
		row[1] = *n
	}
	if ok != nil {
		row[2] = *ok
	}
	if at != nil {
		row[3] = *at
	}
	if raw != nil {
		row[4] = raw
	}
	if note != nil {
		row[5] = *note
	}
	return row, rows.Err()
}

func equal(a, b any) bool {
	switch a := a.(type) {
	case time.Time:
		b, ok := b.(time.Time)
		return ok && a.Equal(b)
	case []byte:
		b, ok := b.([]byte)
		return ok && bytes.Equal(a, b)
	}
	return a == b
}

// comesBackAs stores the row, new and over another, and reads it each time.
func comesBackAs(e metadata.Engine, row []any) error {
	ctx := context.Background()
	id := row[0].(string)
	for _, c := range []metadata.Change{
		{Table: &things, Insert: [][]any{row}}, {Table: &things, Update: [][]any{{id, nil, nil, nil, nil, nil}}},
		{Table: &things, Update: [][]any{row}}, {Table: &things, Delete: []any{id}},
	} {
		if err := e.Commit(ctx, &metadata.Batch{Changes: []metadata.Change{c}}); err != nil {
			return err
		}
		want := row
		if c.Update != nil {
			want = c.Update[0]
		}
		got, err := stored(e, id)
		if c.Delete != nil {
			if err == nil {
				return fmt.Errorf("%q is not deleted", id)
			}
			continue
		}
		if err != nil {
			return err
		}
		for i := range want {
			if !equal(want[i], got[i]) {
				return fmt.Errorf("column %s: %v came back as %v", things.Columns[i].Name, want[i], got[i])
			}
		}
	}
	return nil
}

func valuesComeBack(t *testing.T, open Opener) {
	e := migrated(t, open)
	defer e.Close()
	at := func(y int, m time.Month, d, h, min, s, us int) time.Time {
		return time.Date(y, m, d, h, min, s, us*1000, time.UTC)
	}
	for _, row := range [][]any{
		thing("full", 1),
		{"null", nil, nil, nil, nil, nil},
		{"zero", int64(0), false, time.Unix(0, 0).UTC(), []byte{}, ""},
		{"least", int64(-1 << 63), false, at(1, 1, 1, 0, 0, 0, 0), []byte{0}, " "},
		{"most", int64(1<<63 - 1), true, at(9999, 12, 31, 23, 59, 59, 999999), bytes.Repeat([]byte{255, 0}, 1<<19), strings.Repeat("é", 1<<19)},
		{"before 1970", int64(-1), true, at(1969, 12, 31, 23, 59, 59, 999999), []byte("x"), "\n\t\r"},
		{"in no gap of a zone", int64(1), true, at(2026, 3, 29, 2, 30, 0, 1), []byte("x"), "$1 ? %s ' \" \\ ; --"},
		{"it's \"a\"; key $1 \\", int64(1), true, at(2026, 10, 25, 2, 30, 0, 1), []byte("'"), `{"json": [1, null, "\u0000"]}`},
		{"", int64(1), true, at(2000, 2, 29, 0, 0, 0, 0), []byte("\\x00"), "NULL"},
		{"é e\u0301 \U0001F986", int64(1), true, at(2026, 1, 1, 0, 0, 0, 0), []byte("é"), "\u202e\ufeff\uffff"},
	} {
		if err := comesBackAs(e, row); err != nil {
			t.Errorf("%q: %v", row[0], err)
		}
	}
}

func valuesRefused(t *testing.T, open Opener) {
	e := migrated(t, open)
	defer e.Close()
	with := func(column int, value any) []any {
		row := thing("a", 1)
		row[column] = value
		return row
	}
	for name, row := range map[string][]any{
		"invalid UTF-8": with(5, "a\xff"), "half a rune": with(5, "\xc3"), "a zero byte": with(5, "a\x00b"), "an invalid key": with(0, "\xff"),
		"text for a number": with(1, "one"), "another type": with(1, struct{}{}),
	} {
		for _, c := range []metadata.Change{{Table: &things, Insert: [][]any{row}}, {Table: &things, Update: [][]any{row}}} {
			if err := e.Commit(context.Background(), &metadata.Batch{Changes: []metadata.Change{c}}); !errors.Is(err, metadata.ErrRolledBack) {
				t.Errorf("%s: %v, want ErrRolledBack", name, err)
			}
		}
	}
	want(t, e, nil)
}

func randomValues(t *testing.T, open Opener) {
	e := migrated(t, open)
	defer e.Close()
	text := rapid.StringOf(rapid.Rune().Filter(func(r rune) bool { return r != 0 }))
	maybe := func(t *rapid.T, name string, v any) any {
		if rapid.IntRange(0, 4).Draw(t, name+" is null") == 0 {
			return nil
		}
		return v
	}
	least, most := time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro(), time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC).UnixMicro()
	rapid.Check(t, func(t *rapid.T) {
		row := []any{
			text.Draw(t, "id"),
			maybe(t, "n", rapid.Int64().Draw(t, "n")),
			maybe(t, "ok", rapid.Bool().Draw(t, "ok")),
			maybe(t, "happened", time.UnixMicro(rapid.Int64Range(least, most).Draw(t, "happened")).UTC()),
			maybe(t, "raw", rapid.SliceOf(rapid.Byte()).Draw(t, "raw")),
			maybe(t, "note", text.Draw(t, "note")),
		}
		if err := comesBackAs(e, row); err != nil {
			t.Fatal(err)
		}
	})
}
