package duck

import (
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"
)

// Values that Arrow cannot hold are refused, wherever they are, with their column.
func TestNoValueIsToldAsAnother(t *testing.T) {
	_, conn := open(t, "")
	const (
		huge   = "(CASE WHEN range = 2500 THEN 340282366920938463463374607431768211455::UHUGEINT ELSE 7::UHUGEINT END)"
		long   = "(CASE WHEN range = 2500 THEN to_microseconds(-9223372036854776) WHEN range % 2 = 0 THEN to_years(1000) + to_microseconds(9223372036854775) END)"
		zoned  = "(CASE WHEN range = 2500 THEN TIMETZ '12:00:00+05:30' ELSE TIMETZ '12:00:00+00' END)"
		nested = "{'a': INTERVAL 1 DAY, 'b': [NULL, " + huge + "]}"
	)
	for value, told := range map[string]string{
		huge: "UHUGEINT", long: "INTERVAL", zoned: "TIME WITH TIME ZONE", "[" + long + "]": "INTERVAL", "[NULL, " + zoned + "]::TIMETZ[2]": "TIME WITH TIME ZONE",
		nested: "UHUGEINT", "MAP {range: " + nested + "}": "UHUGEINT", "MAP {" + huge + ": 1}": "UHUGEINT", "union_value(u := " + long + ")": "INTERVAL",
	} {
		for rows, refused := range map[string]bool{"range(2500)": false, "range(3000)": true} {
			b, err := conn.Stream(t.Context(), "SELECT 1 AS one, "+value+" AS odd FROM "+rows)
			if err == nil {
				_, err = drain(b)
				_ = b.Close()
			}
			complaint, ok := Complains(err)
			if ok != refused || refused && (!strings.Contains(complaint.Words, `column "odd" has a`) || !strings.Contains(complaint.Words, told)) || !refused && err != nil {
				t.Errorf("%s of %s: %v", value, rows, err)
			}
		}
	}
}

// What is the same for all rows is a single value to DuckDB, until it is flattened.
func TestWhatIsTheSameInAllRowsIsLookedThroughOnce(t *testing.T) {
	_, conn := open(t, "")
	b, err := conn.Stream(t.Context(), "SELECT {'n': range, 'i': INTERVAL 5 DAY, 'a': [TIMETZ '12:00:00+00', NULL]} AS s FROM range(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	batch, err := b.Next()
	if err != nil {
		t.Fatal(err)
	}
	defer batch.Release()
	days := batch.Column(0).(*array.Struct).Field(1).(*array.MonthDayNanoInterval)
	if last := days.Value(days.Len() - 1); last.Days != 5 {
		t.Errorf("the last is %v", last)
	}
	if rows, err := drain(b); rows+batch.NumRows() != 5000 || err != nil {
		t.Errorf("%d rows, %v", rows, err)
	}
}

func TestATypeThatArrowLacksIsToldWithItsColumn(t *testing.T) {
	_, conn := open(t, "")
	b, err := conn.Stream(t.Context(), "SELECT 1 AS one, 1::VARIANT AS any")
	if err == nil {
		_ = b.Close()
	}
	if complaint, ok := Complains(err); !ok || !strings.Contains(complaint.Words, `column "any" has a type`) {
		t.Errorf("%v", err)
	}
}
