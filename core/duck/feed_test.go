//go:build duckdb_arrow

package duck

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A statement reads rows of every type while they are given to it, in their order.
func TestFeedGivesRowsToAStatement(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rows.parquet")
	db, conn := open(t, "")
	f, err := conn.Feed(t.Context(), path, "FORMAT parquet",
		[]string{"i", "t", "b", "moment", "bytes"}, []Type{Int, Text, Bool, Time, Blob})
	must(t, err)
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	for page := range 30 {
		rows := make([][]any, 1000)
		for i := range rows {
			n := int64(page*1000 + i)
			rows[i] = []any{n, fmt.Sprintf("ü%d", n), n%2 == 0, at, []byte{0, byte(n)}}
			if n == 7 {
				rows[i] = []any{n, nil, nil, nil, nil}
			}
		}
		must(t, f.Add(rows))
	}
	must(t, f.Close(nil))
	said, err := conn.Text(t.Context(), fmt.Sprintf(`SELECT concat_ws(' ', count(*), sum(i), count(*) FILTER (t = 'ü' || i), count(*) FILTER (b = (i %% 2 = 0)),
		count(*) FILTER (moment = TIMESTAMPTZ '2026-01-02 03:04:05.000006+00'), count(*) FILTER (bytes = '\x00'::BLOB || unhex(right(printf('%%02x', i %% 256), 2))),
		count(*) FILTER (i = file_row_number), typeof(any_value(moment))) FROM read_parquet('%s', file_row_number = true)`, path))
	must(t, err)
	if said != "30000 449985000 29999 29999 29999 29999 30000 TIMESTAMP WITH TIME ZONE" {
		t.Errorf("the file has %s", said)
	}
	must(t, errors.Join(conn.Close(), db.Close()))
}

// What fails of a feed says why, and keeps nobody waiting: a value that is none, rows
// that end early, a file that cannot be, a context that ends.
func TestFeedFails(t *testing.T) {
	_, conn := open(t, "")
	into := func(path, options string) *Feed {
		t.Helper()
		f, err := conn.Feed(t.Context(), path, options, []string{"i", "t"}, []Type{Int, Text})
		must(t, err)
		return f
	}
	path, parquet := filepath.Join(t.TempDir(), "it's.parquet"), "FORMAT parquet"
	f := into(path, parquet)
	for _, row := range [][]any{{int64(1), "\xff"}, {int64(1), "\x00"}, {"1", "x"}, {int64(1), 1.5}, {int64(1), int64(2)}} {
		if err := f.Add([][]any{{int64(0), "whole"}, row}); err == nil || !strings.HasPrefix(err.Error(), "column ") {
			t.Errorf("%v: %v", row, err)
		}
	}
	must(t, f.Add([][]any{{int64(1), "x"}}))
	must(t, f.Close(nil))

	early := errors.New("early")
	f = into(path, parquet)
	must(t, f.Add([][]any{{int64(1), "x"}}))
	if err := f.Close(early); !errors.Is(err, early) {
		t.Errorf("ended early: %v", err)
	}
	for _, c := range [][2]string{{path, "FORMAT nothing"}, {path + ".folder/it", parquet}} {
		f = into(c[0], c[1])
		var err error
		for range 100 {
			if err = f.Add([][]any{{int64(1), "wrong"}}); err != nil {
				break
			}
		}
		if err == nil || errors.Is(err, ErrFed) {
			t.Errorf("%v: %v", c, err)
		}
		if err := f.Close(nil); err == nil {
			t.Errorf("%v: no error at its end", c)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	f, err := conn.Feed(ctx, path, parquet, []string{"i", "t"}, []Type{Int, Text})
	must(t, err)
	must(t, f.Add([][]any{{int64(1), "x"}}))
	cancel()
	if err := f.Close(ctx.Err()); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if said, err := conn.Text(t.Context(), `SELECT 'it lives'`); said != "it lives" {
		t.Errorf("the connection afterwards: %v", err)
	}
}
