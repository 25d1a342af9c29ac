package duck

import (
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
