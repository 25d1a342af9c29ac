package worker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/duck"
)

// statistic is one thing that describes a column: the expression that computes
// it, and where its value goes, if it has one.
type statistic struct {
	sql  string
	take func(*ColumnStats, arrow.Array)
}

// quantiles and deciles are asked for together: their digest is what takes the
// time.
const (
	quantiles = ", [0.25, 0.5, 0.75]"
	deciles   = ", [0.25, 0.5, 0.75, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]"
)

// statisticsOf lists what describes a column in a mode.
func statisticsOf(c Column, mode string) []statistic {
	name, detailed := quote(c.Name), mode == "full" || mode == "distribution"
	all := []statistic{
		{"count(" + name + ")", func(s *ColumnStats, v arrow.Array) { s.Count = whole(v) }},
		{"approx_count_distinct(" + name + ")", func(s *ColumnStats, v arrow.Array) { s.ApproxUnique = whole(v) }},
		{"left(min(" + name + ")::VARCHAR, 256)", func(s *ColumnStats, v arrow.Array) { s.Min = text(v, 0) }},
		{"left(max(" + name + ")::VARCHAR, 256)", func(s *ColumnStats, v arrow.Array) { s.Max = text(v, 0) }},
	}
	if detailed {
		all = append(all, statistic{"approx_top_k(left(" + name + "::VARCHAR, 256), 10)", (*ColumnStats).takeTop})
	}
	if !numeric(c.Type) || mode == "quality" {
		return all
	}
	shares := quantiles
	if detailed {
		shares = deciles
	}
	return append(all,
		statistic{ofNumber("avg", c, ""), func(s *ColumnStats, v arrow.Array) { s.Avg = double(v, 0) }},
		statistic{ofNumber("stddev_samp", c, ""), func(s *ColumnStats, v arrow.Array) { s.Std = double(v, 0) }},
		statistic{ofNumber("approx_quantile", c, shares), (*ColumnStats).takeQuantiles})
}

// ofNumber is an aggregate of the numbers of a column. NaN and the infinities,
// which not every type has, are left out.
func ofNumber(function string, c Column, more string) string {
	number := "CAST(" + quote(c.Name) + " AS DOUBLE)"
	sql := function + "(" + number + more + ")"
	if fractional(c.Type) {
		sql += " FILTER (isfinite(" + number + "))"
	}
	return sql
}

func fractional(kind string) bool { return kind == "FLOAT" || kind == "DOUBLE" }

// describe asks for the statistics of some columns in one scan.
//
// Each statistic is a column of the answer, and is read as such: through one JSON
// text it would pass vectors within vectors.
func (p *Profile) describe(ctx context.Context, conn *duck.Conn, table string, columns []Column, mode string) error {
	var asked []statistic
	var of []int // the column of each
	var parts []string
	for i, c := range columns {
		for _, one := range statisticsOf(c, mode) {
			asked, of, parts = append(asked, one), append(of, i), append(parts, one.sql)
		}
	}
	all := make([]ColumnStats, len(columns))
	err := aggregateEach(ctx, conn, parts, table, func(i int, v arrow.Array) { asked[i].take(&all[of[i]], v) })
	if err != nil {
		return blamed(err, eider.QueryFailed)
	}
	for i := range all {
		all[i].complete(columns[i], p.RowCount)
	}
	p.Statistics = append(p.Statistics, all...)
	return nil
}

// complete fills in what follows from the rest.
func (s *ColumnStats) complete(c Column, rows int64) {
	s.ColumnName, s.ColumnType, s.NullCount = c.Name, c.Type, rows-s.Count
	if rows > 0 {
		s.NullPercentage = round(100 * float64(s.NullCount) / float64(rows))
	}
	if s.TopValues == nil {
		s.TopValues = []string{}
	}
	if s.Histogram == nil {
		s.Histogram = []float64{}
	}
}

// correlate looks at pairs of the first columns of numbers.
func (p *Profile) correlate(ctx context.Context, conn *duck.Conn, table *Table) error {
	var numbers []Column
	for _, c := range table.Columns {
		if numeric(c.Type) && len(numbers) < correlated {
			numbers = append(numbers, c)
		}
	}
	var pairs []Correlation
	var parts []string
	for i, a := range numbers {
		for _, b := range numbers[i+1:] {
			pairs, parts = append(pairs, Correlation{A: a.Name, B: b.Name}), append(parts, ofPair(a, b))
		}
	}
	for begin := 0; begin < len(parts); begin += pairsAtOnce {
		some := parts[begin:min(begin+pairsAtOnce, len(parts))]
		err := aggregateEach(ctx, conn, some, qualified(table.Bucket, table.Name), func(i int, v arrow.Array) {
			if r := double(v, 0); r != nil {
				pair := pairs[begin+i]
				pair.Coefficient = math.Round(*r*1e6) / 1e6
				p.Correlations = append(p.Correlations, pair)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func ofPair(a, b Column) string {
	x, y := "CAST("+quote(a.Name)+" AS DOUBLE)", "CAST("+quote(b.Name)+" AS DOUBLE)"
	var finite []string
	if fractional(a.Type) {
		finite = append(finite, "isfinite("+x+")")
	}
	if fractional(b.Type) {
		finite = append(finite, "isfinite("+y+")")
	}
	sql := "corr(" + x + ", " + y + ")"
	if len(finite) > 0 {
		sql += " FILTER (" + strings.Join(finite, " AND ") + ")"
	}
	return sql
}

// aggregateEach is aggregate where one may have no number: the deviation of numbers
// near the end of DOUBLE is beyond it. Then they are computed one by one, and those
// are told as NULLs are.
func aggregateEach(ctx context.Context, conn *duck.Conn, aggregates []string, table string, tell func(i int, v arrow.Array)) error {
	told := make([]arrow.Array, len(aggregates))
	defer func() {
		for _, v := range told {
			if v != nil {
				v.Release()
			}
		}
	}()
	keep := func(first int) func(int, arrow.Array) {
		return func(i int, v arrow.Array) {
			v.Retain()
			told[first+i] = v
		}
	}
	err := aggregate(ctx, conn, aggregates, table, keep(0))
	if beyond(err) {
		for i := range aggregates {
			if err = aggregate(ctx, conn, aggregates[i:i+1], table, keep(i)); err != nil && !beyond(err) {
				return err
			}
		}
		err = nil
	}
	for i, v := range told {
		if err == nil && v != nil {
			tell(i, v)
		}
	}
	return err
}

// beyond reports whether a number was out of its range.
func beyond(err error) bool {
	complaint, ok := duck.Complains(err)
	return ok && complaint.Kind == duck.ComplaintConversion
}

// aggregate computes aggregates of a table, and tells those that are not NULL.
func aggregate(ctx context.Context, conn *duck.Conn, aggregates []string, table string, tell func(i int, v arrow.Array)) (err error) {
	b, err := conn.Stream(ctx, "SELECT "+strings.Join(aggregates, ", ")+" FROM "+table)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	row, err := b.Next()
	if err != nil {
		return fmt.Errorf("the row of aggregates: %w", err)
	}
	defer row.Release()
	for i, v := range row.Columns() {
		if !v.IsNull(0) {
			tell(i, v)
		}
	}
	return nil
}

func (s *ColumnStats) takeTop(v arrow.Array) {
	values, from, to := listed(v)
	for i := from; i < to; i++ {
		if one := text(values, i); one != nil {
			s.TopValues = append(s.TopValues, *one)
		}
	}
}

// takeQuantiles takes them in the order of the constants above.
func (s *ColumnStats) takeQuantiles(v arrow.Array) {
	values, from, to := listed(v)
	for i := from; i < to; i++ {
		one := double(values, i)
		switch {
		case i-from < 3:
			*[]**float64{&s.Q25, &s.Q50, &s.Q75}[i-from] = one
		case one != nil:
			s.Histogram = append(s.Histogram, *one)
		}
	}
}

// listed returns the values of the list in the first row.
func listed(v arrow.Array) (values arrow.Array, from, to int) {
	list, ok := v.(array.ListLike)
	if !ok {
		return v, 0, 0
	}
	begin, end := list.ValueOffsets(0)
	return list.ListValues(), int(begin), int(end)
}

func whole(v arrow.Array) int64 {
	if n, ok := v.(*array.Int64); ok {
		return n.Value(0)
	}
	return 0
}

// text and double return a value, nil for NULL.
func text(v arrow.Array, i int) *string {
	s, ok := v.(*array.String)
	if !ok || s.IsNull(i) {
		return nil
	}
	one := strings.Clone(s.Value(i))
	return &one
}

// double knows no NaN and no infinities, which JSON has no numbers for.
func double(v arrow.Array, i int) *float64 {
	d, ok := v.(*array.Float64)
	if !ok || d.IsNull(i) || math.IsNaN(d.Value(i)) || math.IsInf(d.Value(i), 0) {
		return nil
	}
	one := d.Value(i)
	return &one
}

var numbers = map[string]bool{
	"TINYINT": true, "SMALLINT": true, "INTEGER": true, "BIGINT": true, "HUGEINT": true, "UTINYINT": true, "USMALLINT": true,
	"UINTEGER": true, "UBIGINT": true, "UHUGEINT": true, "FLOAT": true, "DOUBLE": true,
}

func numeric(kind string) bool {
	return numbers[kind] || strings.HasPrefix(kind, "DECIMAL(") && !strings.HasSuffix(kind, "]")
}
