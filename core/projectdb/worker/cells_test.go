package worker

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/eiderdb/eider/core/duck"
)

// rendered returns the text of a statement's rows, written cell by cell or by
// DuckDB.
func rendered(t *testing.T, conn *duck.Conn, p presentation, natively bool) string {
	t.Helper()
	b, columns, err := p.stream(t.Context(), conn)
	if err == nil && !p.native {
		t.Fatalf("not written cell by cell: %v", columns)
	}
	if err == nil && !natively {
		p.native = false
		if err = b.Close(); err == nil {
			columns, err = p.columns(t.Context(), conn)
		}
		if err == nil {
			b, err = conn.Stream(t.Context(), p.text())
		}
	}
	if err != nil {
		t.Fatalf("%s: %v", p.sql, err)
	}
	defer func() { _ = b.Close() }()
	var text bytes.Buffer
	out := &outgoing{send: func(p []byte) ([]byte, error) { text.Write(p); return nil, nil }}
	r := p.renderer(out, columns, b.Schema())
	for {
		batch, err := b.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = r.rows(batch)
			batch.Release()
		}
		if err != nil {
			t.Fatalf("%s: %v", p.sql, err)
		}
	}
	if err := errors.Join(r.end(), out.flush()); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

func TestCellsAreWrittenAsDuckDBWritesThem(t *testing.T) {
	db, err := duck.Open(t.Context(), "", duck.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, sql := range append(ofEveryType(), doubles(2000), moments(2000)) {
		for _, form := range []string{FormJSON, FormLines, FormCSV} {
			p := presentation{form: form, sql: sql}
			ours, theirs := rendered(t, conn, p, true), rendered(t, conn, p, false)
			if ours == theirs {
				continue
			}
			a, b := strings.Split(ours, "\n"), strings.Split(theirs, "\n")
			for i := range a {
				if i >= len(b) || a[i] != b[i] {
					t.Errorf("%s of %s:\n%s\nDuckDB writes\n%s", form, cutShort(sql), cutShort(a[i]), cutShort(b[min(i, len(b)-1)]))
					break
				}
			}
		}
	}
}

func cutShort(s string) string { return s[:min(len(s), 400)] }

func ofEveryType() (all []string) {
	for _, kind := range []string{"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"} {
		low, high := int64(0), "255"
		switch kind {
		case "TINYINT":
			low, high = math.MinInt8, "127"
		case "SMALLINT":
			low, high = math.MinInt16, "32767"
		case "INTEGER":
			low, high = math.MinInt32, "2147483647"
		case "BIGINT":
			low, high = math.MinInt64, "9223372036854775807"
		case "UBIGINT":
			high = "18446744073709551615"
		}
		all = append(all, fmt.Sprintf("SELECT v::%s AS v FROM (VALUES (%d), (0), (1), (NULL), (%s)) AS t(v)", kind, low, high))
	}
	for _, decimal := range []string{"DECIMAL(18,1)", "DECIMAL(18,18)", "DECIMAL(18,0)", "DECIMAL(4,2)", "DECIMAL(2,2)", "DECIMAL(9,4)", "DECIMAL(1,0)", "DECIMAL(15,15)", "DECIMAL(15,2)", "DECIMAL(16,2)", "DECIMAL(16,16)"} {
		all = append(all, "SELECT v::"+decimal+" AS v FROM (VALUES (0.0), (0.5), (-0.5), (0.01), (-0.25), (NULL)) AS t(v)")
	}
	return append(all,
		"SELECT v::DECIMAL(18,3) AS v FROM (VALUES (999999999999999.999), (-999999999999999.999), (1.5), (-100), (0.001), (-0.001)) AS t(v)",
		"SELECT (range * 7919 - 500000)::DECIMAL(15,3) / 3 AS q, ((range * 104729 - 50000000) / 1000)::DECIMAL(15,3) AS v, ((range * 104729 - 50000000) / 1000)::DECIMAL(12,5) AS w FROM range(1000)",
		"SELECT true AS yes, false AS no, NULL::BOOLEAN AS neither",
		`SELECT chr(range::INTEGER) AS c, 'x' || chr(range::INTEGER) || 'y' AS "a ""name"", with	things
and é" FROM range(1, 700)`,
		"SELECT v FROM (VALUES (''), ('a,b'), ('a\"b'), ('a\nb'), ('a\r'), (' a '), ('\\'), ('/'), ('日本🦆'), (NULL), ('NaN'), ('null')) AS t(v)",
		"SELECT v::DOUBLE AS v FROM (VALUES ('nan'), ('-nan'), ('inf'), ('-inf'), ('0'), ('-0'), ('1e15'), ('1e16'), ('1e17'), ('1e20'), ('1e21'), ('1e22'), ('123456789012345678'), ('1e-4'), ('1e-5'), ('1e-6'), ('1e-7'), ('1.5e-7'), ('1.7976931348623157e308'), ('5e-324'), ('0.1'), ('100'), (NULL)) AS t(v)",
		"SELECT v::DATE AS v FROM (VALUES ('2024-02-29'), ('0001-01-01'), ('9999-12-31'), ('10000-01-01'), ('123456-07-08'), ('0044-03-15 (BC)'), ('0001-12-31 (BC)'), ('5877642-06-25 (BC)'), ('5881580-07-10'), ('infinity'), ('-infinity'), (NULL)) AS t(v)",
		"SELECT v::TIMESTAMP AS v FROM (VALUES ('2024-02-29 12:34:56'), ('2024-02-29 00:00:00.1'), ('2024-02-29 00:00:00.123456'), ('2024-02-29 00:00:00.000001'), ('2024-02-29 00:00:00.120'), ('0001-01-01 00:00:00'), ('0044-03-15 (BC) 01:02:03.5'), ('20240-01-01 01:01:01'), ('1969-12-31 23:59:59.999999'), ('infinity'), ('-infinity'), (NULL)) AS t(v)",
		"SELECT 1 AS a, 2 AS \"A b\" FROM range(3000)",
		"SELECT 1 AS a WHERE false",
	)
}

func doubles(n int) string {
	r := rand.New(rand.NewPCG(1, 2))
	values := make([]string, n)
	for i := range values {
		f := math.Float64frombits(r.Uint64())
		if i%2 == 0 {
			f = float64(r.Int64N(1_000_000_000)) * math.Pow(10, float64(r.IntN(30)-15))
		}
		if math.IsNaN(f) {
			f = 0
		}
		values[i] = fmt.Sprintf("('%g')", f)
	}
	return "SELECT v::DOUBLE AS v FROM (VALUES " + strings.Join(values, ", ") + ") AS t(v)"
}

func moments(n int) string {
	r := rand.New(rand.NewPCG(3, 4))
	values := make([]string, n)
	for i := range values {
		values[i] = fmt.Sprintf("(%d, %d)", r.Int64N(1e18)-5e17, r.IntN(4_000_000)-2_000_000)
	}
	return "SELECT make_timestamp(a) AS v, DATE '1970-01-01' + b AS w FROM (VALUES " + strings.Join(values, ", ") + ") AS t(a, b)"
}
