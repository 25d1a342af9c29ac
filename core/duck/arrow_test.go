package duck

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
)

// drain reads rows to their end, and returns how many there were.
func drain(b *Batches) (rows int64, err error) {
	for {
		batch, err := b.Next()
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if err != nil {
			return rows, err
		}
		rows += batch.NumRows()
		batch.Release()
	}
}

func TestBatchesHoldTheRowsOfAStatement(t *testing.T) {
	_, conn := open(t, "")
	b, err := conn.Stream(t.Context(), "SELECT range AS n, 'row ' || range AS words FROM range(3) WHERE range >= $1", "1")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if got := b.Schema().String(); !strings.Contains(got, "n: type=int64") || !strings.Contains(got, "words: type=utf8") {
		t.Errorf("the schema is %s", got)
	}
	batch, err := b.Next()
	if err != nil {
		t.Fatal(err)
	}
	defer batch.Release()
	if batch.NumRows() != 2 || batch.Column(0).(*array.Int64).Value(1) != 2 || batch.Column(1).(*array.String).Value(0) != "row 1" {
		t.Errorf("the rows are %v", batch.Columns())
	}
	if _, err := b.Next(); !errors.Is(err, io.EOF) || b.Changes() {
		t.Errorf("after the rows: %v, changes %v", err, b.Changes())
	}
}

func TestAChangeTellsHowManyRows(t *testing.T) {
	_, conn := open(t, "")
	if err := conn.Exec(t.Context(), "CREATE TABLE numbers (n BIGINT)"); err != nil {
		t.Fatal(err)
	}
	b, err := conn.Stream(t.Context(), "INSERT INTO numbers FROM range(5)")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	batch, err := b.Next()
	if err != nil || !b.Changes() || batch.Column(0).(*array.Int64).Value(0) != 5 {
		t.Fatalf("%v, changes %v: %v", batch, b.Changes(), err)
	}
	batch.Release()
}

func TestAnErrorBehindManyRowsIsNoEnd(t *testing.T) {
	db, conn := open(t, "")
	b, err := conn.Stream(t.Context(), "SELECT CASE WHEN range < 500000 THEN range ELSE error('late') END FROM range(1000000)")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	rows, err := drain(b)
	if rows == 0 || err == nil || !strings.Contains(err.Error(), "late") {
		t.Errorf("%d rows, then %v", rows, err)
	}
	if _, again := b.Next(); again == nil || errors.Is(again, io.EOF) {
		t.Errorf("asked again: %v", again)
	}
	if db.Dead() != nil {
		t.Error("the instance is retired")
	}
}

func TestStatementErrorsComeBeforeRows(t *testing.T) {
	_, conn := open(t, "")
	for _, query := range []string{"SELECT nope", "SELECT 'a'::INTEGER", "SELECT 1; SELECT 2", "SELECT $1", ""} {
		if b, err := conn.Stream(t.Context(), query); err == nil {
			_ = b.Close()
			t.Errorf("%q was begun", query)
		}
	}
}

func TestAStatementEndsWithItsContext(t *testing.T) {
	for name, query := range map[string]string{
		"before rows":  "SELECT count(*) FROM range(1000000) a, range(1000000) b",
		"between rows": "SELECT * FROM range(1000000) a, range(1000000) b",
	} {
		t.Run(name, func(t *testing.T) {
			_, conn := open(t, "")
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			b, err := conn.Stream(ctx, query)
			if err == nil {
				_, err = drain(b)
				_ = b.Close()
			}
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v", err)
			}
			if err := conn.Exec(t.Context(), "SELECT 1"); err != nil {
				t.Errorf("the next statement: %v", err)
			}
		})
	}
}

func TestRowsLeftUnreadLeaveNothing(t *testing.T) {
	_, conn := open(t, "")
	for range 3 {
		b, err := conn.Stream(t.Context(), "SELECT range, range::VARCHAR FROM range(100000000)")
		if err != nil {
			t.Fatal(err)
		}
		batch, err := b.Next()
		if err != nil {
			t.Fatal(err)
		}
		batch.Release()
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// The rows of this statement take some 800 MB if they are all there at once.
func TestMemoryDoesNotGrowWithTheRows(t *testing.T) {
	_, conn := open(t, "")
	b, err := conn.Stream(t.Context(), "SELECT range, repeat('x', 400) AS filler FROM range(2000000)")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	before, most := resident(t), int64(0)
	for i := 0; ; i++ {
		batch, err := b.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		batch.Release()
		if i%50 == 0 {
			most = max(most, resident(t))
		}
	}
	if grown := most - before; grown > 200<<20 {
		t.Errorf("the process has grown by %d MiB", grown>>20)
	}
}

// resident returns how much memory the process holds, in bytes.
func resident(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// everySimpleType has a column of each type of which batches are gathered, with NULLs
// at places of their own, texts short, long and empty, and chunks of any size.
const everySimpleType = `
	SELECT * REPLACE (CASE WHEN n % 5 <> 2 THEN n END AS n), n % 2 = 0 AS always, NULL::INTEGER AS never
	FROM (SELECT range AS n, CASE WHEN n % 3 <> 0 THEN n % 7 < 3 END AS b, CASE WHEN n % 4 <> 0 THEN (n % 100)::TINYINT END AS i8, (n % 1000)::SMALLINT AS i16,
		CASE WHEN n % 11 <> 0 THEN n::INTEGER END AS i32, (n % 200)::UTINYINT AS u8, n::USMALLINT AS u16, n::UINTEGER AS u32, n::UBIGINT AS u64,
		CASE WHEN n % 13 <> 0 THEN n / 7 END AS f64, CASE WHEN n % 6 <> 0 THEN repeat('ä', (n % 10)::INTEGER) END AS words, 'row ' || n AS row,
		CASE WHEN n >= 5000 THEN 'late ' || n END AS late, DATE '1969-12-31' + n::INTEGER AS day, TIMESTAMP '1999-12-31 23:59:59.123456' + INTERVAL 1 HOUR * n AS at,
		n::FLOAT / 3 AS f32, TIME '00:00:00.000001' + INTERVAL 1 SECOND * n AS hour, TIMESTAMPTZ '2000-01-01 00:00:00Z' + INTERVAL 1 MINUTE * n AS zoned,
		make_timestamp(n * 1000000)::TIMESTAMP_S AS ts, make_timestamp(n * 1000)::TIMESTAMP_MS AS tms, make_timestamp_ns(n) AS tns,
		CASE WHEN n % 8 <> 0 THEN n::HUGEINT * -100000000000000000000 END AS huge, (n * 1.5)::DECIMAL(30,2) AS d128, encode('blob ' || n) AS blob,
		(n % 90 - 45)::DECIMAL(4,2) AS d16, CASE WHEN n % 9 <> 0 THEN (n - 7)::DECIMAL(9,3) END AS d32, (-n * 1.5)::DECIMAL(18,1) AS d64
	FROM range(15000)) WHERE hash(n) % 3 <> 0 AND n NOT BETWEEN 8000 AND 11000`

// told returns the rows of a statement as JSON, gathered or as DuckDB converts them.
func told(t *testing.T, conn *Conn, query string, gathered bool) (text string, batches int) {
	t.Helper()
	b, err := conn.Stream(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if b.gather == nil {
		t.Fatal("its rows are not gathered")
	}
	if !gathered {
		b.gather = nil
	}
	var all bytes.Buffer
	for ; ; batches++ {
		batch, err := b.Next()
		if errors.Is(err, io.EOF) {
			return all.String(), batches
		}
		if err == nil {
			err = array.RecordToJSON(batch, &all)
			batch.Release()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestGatheredRowsAreThoseThatDuckDBConverts(t *testing.T) {
	_, conn := open(t, "")
	got, batches := told(t, conn, everySimpleType, true)
	want, chunks := told(t, conn, everySimpleType, false)
	if got != want {
		lines := strings.Split(want, "\n")
		for i, line := range strings.Split(got, "\n") {
			if i >= len(lines) || line != lines[i] {
				t.Fatalf("row %d is\n%s, not\n%s", i, line, lines[min(i, len(lines)-1)])
			}
		}
		t.Fatalf("%d bytes of %d", len(got), len(want))
	}
	if batches >= chunks {
		t.Errorf("%d batches of %d chunks", batches, chunks)
	}
}
