package duck

import (
	"errors"
	"io"
	"iter"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// longTexts has chunks whose texts are longer than a batch's, beside columns that are
// split with them at rows of any number.
const longTexts = `
	SELECT range AS n, CASE WHEN n % 3 <> 0 THEN repeat(chr(97 + (n % 26)::INTEGER), ((n * 37) % 9000)::INTEGER) END AS a, CASE WHEN n % 5 <> 0 THEN n % 7 < 3 END AS b,
		repeat('ä', (n % 10)::INTEGER) AS c, CASE WHEN n = 2500 THEN repeat('z', 5000000) WHEN n % 2 = 0 THEN 'b' || n END AS d, CASE WHEN n % 11 <> 0 THEN n::DECIMAL(9,3) END AS e
	FROM range(5000)`

func TestLongTextsComeInBatchesThatAreNotLonger(t *testing.T) {
	_, conn := open(t, "")
	got, batches := told(t, conn, longTexts, true)
	want, chunks := told(t, conn, longTexts, false)
	if got != want {
		t.Fatalf("%d bytes of %d, or others", len(got), len(want))
	}
	if batches <= chunks {
		t.Errorf("%d batches of %d chunks", batches, chunks)
	}
	for batch := range streamed(t, conn, longTexts) {
		size := 0
		for _, name := range []int{1, 3, 4} {
			size += len(batch.Column(name).(*array.String).ValueBytes())
		}
		if size > splitTexts && batch.NumRows() > 1 {
			t.Errorf("%d rows of %d bytes", batch.NumRows(), size)
		}
		batch.Release()
	}
}

func TestRowsOfAChunkThatAreLeftUnreadLeaveNothing(t *testing.T) {
	_, conn := open(t, "")
	b, err := conn.Stream(t.Context(), longTexts)
	if err != nil {
		t.Fatal(err)
	}
	batch, err := b.Next()
	if err != nil || b.gather.left == 0 {
		t.Fatalf("%d rows of the chunk are left, %v", b.gather.left, err)
	}
	batch.Release()
	if err := b.Close(); err != nil || b.gather.chunk.Ptr != nil {
		t.Errorf("the chunk is still there, %v", err)
	}
}

func TestWhatIsNullHasNoValue(t *testing.T) {
	_, conn := open(t, "")
	for batch := range streamed(t, conn, everySimpleType) {
		var err error
		for i, column := range batch.Columns() {
			for row := range column.Len() {
				if column.IsValid(row) {
					continue
				}
				switch c := column.(type) {
				case *array.Int32:
					err = blankOr(err, c.Value(row) == 0)
				case *array.Int64:
					err = blankOr(err, c.Value(row) == 0)
				case *array.Float64:
					err = blankOr(err, c.Value(row) == 0)
				case *array.Decimal128:
					err = blankOr(err, c.Value(row).Sign() == 0)
				case *array.Boolean:
					err = blankOr(err, !c.Value(row))
				}
			}
			if err != nil {
				t.Fatalf("column %s: %v", batch.ColumnName(i), err)
			}
		}
		batch.Release()
	}
}

func blankOr(err error, blank bool) error {
	if !blank {
		return errors.New("a NULL has a value")
	}
	return err
}

// streamed returns the batches of a statement's rows, each of which is good until the next.
func streamed(t *testing.T, conn *Conn, sql string) iter.Seq[arrow.RecordBatch] {
	t.Helper()
	return func(yield func(arrow.RecordBatch) bool) {
		b, err := conn.Stream(t.Context(), sql)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		for {
			batch, err := b.Next()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !yield(batch) {
				return
			}
		}
	}
}
