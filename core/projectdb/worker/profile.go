package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/duck"
)

// Profile describes the values of a table. Columns are the same as Statistics.
type Profile struct {
	TableName     string        `json:"table_name"`
	BucketName    string        `json:"bucket_name"`
	RowCount      int64         `json:"row_count"`
	ColumnCount   int           `json:"column_count"`
	Statistics    []ColumnStats `json:"statistics"`
	Columns       []ColumnStats `json:"columns" doc:"The same as statistics"`
	QualityScore  float64       `json:"quality_score" doc:"From 0 to 100"`
	QualityIssues []Issue       `json:"quality_issues"`
	Correlations  []Correlation `json:"correlations"`
}

// ColumnStats describes the values of one column. What its type or the mode does
// not give is null.
type ColumnStats struct {
	ColumnName     string    `json:"column_name"`
	ColumnType     string    `json:"column_type"`
	Count          int64     `json:"count" doc:"Values that are not NULL"`
	NullCount      int64     `json:"null_count"`
	NullPercentage float64   `json:"null_percentage"`
	ApproxUnique   int64     `json:"approx_unique"`
	Min            *string   `json:"min" doc:"As text, at most 256 characters"`
	Max            *string   `json:"max" doc:"As text, at most 256 characters"`
	Avg            *float64  `json:"avg"`
	Std            *float64  `json:"std"`
	Q25            *float64  `json:"q25"`
	Q50            *float64  `json:"q50"`
	Q75            *float64  `json:"q75"`
	TopValues      []string  `json:"top_values" doc:"The most frequent, in the modes full and distribution"`
	Histogram      []float64 `json:"histogram" doc:"Deciles of a number, in the modes full and distribution"`
}

// Issue is what a table's values may suffer from.
type Issue struct {
	Column   string `json:"column"`
	Kind     string `json:"kind" enum:"all_null,many_nulls,constant,empty_table"`
	Severity string `json:"severity" enum:"low,medium,high"`
	Detail   string `json:"detail"`
}

// Correlation is Pearson's coefficient of two columns of numbers.
type Correlation struct {
	A           string  `json:"column_a"`
	B           string  `json:"column_b"`
	Coefficient float64 `json:"coefficient"`
}

// columnsAtOnce bounds a query of statistics: DuckDB takes 400 MB of addresses for
// 36 columns, whatever their rows, and 8 MB for 9, and the worker's are limited.
// correlated bounds the columns whose pairs are looked at, pairsAtOnce a query.
const (
	columnsAtOnce = 4
	correlated    = 20
	pairsAtOnce   = 48
)

func profile(ctx context.Context, t *task) (any, error) {
	var in Target
	if err := t.args(&in); err != nil {
		return nil, err
	}
	p := Profile{Statistics: []ColumnStats{}, QualityIssues: []Issue{}, Correlations: []Correlation{}}
	err := t.read(ctx, func(conn *duck.Conn) error {
		table, err := readTable(ctx, conn, in.Bucket, in.Table)
		if err != nil {
			return err
		}
		p.TableName, p.BucketName, p.RowCount, p.ColumnCount = table.Name, table.Bucket, table.RowCount, len(table.Columns)
		for begin := 0; begin < len(table.Columns); begin += columnsAtOnce {
			part := table.Columns[begin:min(begin+columnsAtOnce, len(table.Columns))]
			if err := p.describe(ctx, conn, qualified(table.Bucket, table.Name), part, in.Mode); err != nil {
				return err
			}
		}
		if in.Mode == "full" {
			return p.correlate(ctx, conn, &table)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	p.Columns = p.Statistics
	p.judge(in.Mode)
	return nil, t.say(p)
}

// describe asks for the statistics of some columns in one scan.
func (p *Profile) describe(ctx context.Context, conn *duck.Conn, table string, columns []Column, mode string) error {
	parts := make([]string, len(columns))
	for i, c := range columns {
		parts[i] = statisticsOf(c, mode)
	}
	text, err := conn.Text(ctx, `SELECT to_json([`+strings.Join(parts, ", ")+`])::VARCHAR FROM `+table)
	if err != nil {
		return blamed(err, eider.QueryFailed) // such as numbers whose deviation is out of range
	}
	var all []ColumnStats
	if err := json.Unmarshal(withoutNaN([]byte(text), false), &all); err != nil {
		return fmt.Errorf("read the statistics: %w", err)
	}
	for i := range all {
		s := &all[i]
		s.ColumnName, s.ColumnType = columns[i].Name, columns[i].Type
		s.NullCount = p.RowCount - s.Count
		if p.RowCount > 0 {
			s.NullPercentage = round(100 * float64(s.NullCount) / float64(p.RowCount))
		}
		if s.TopValues == nil {
			s.TopValues = []string{}
		}
		if s.Histogram == nil {
			s.Histogram = []float64{}
		}
	}
	p.Statistics = append(p.Statistics, all...)
	return nil
}

func statisticsOf(c Column, mode string) string {
	name := quote(c.Name)
	bounded := `left(%s(` + name + `)::VARCHAR, 256)`
	members := []string{
		`"count": count(` + name + `)`, `approx_unique: approx_count_distinct(` + name + `)`,
		`"min": ` + fmt.Sprintf(bounded, "min"), `"max": ` + fmt.Sprintf(bounded, "max"),
	}
	number := `CAST(` + name + ` AS DOUBLE)`
	finite := ` FILTER (isfinite(` + number + `))`
	none := []string{`"avg": NULL::DOUBLE`, `std: NULL::DOUBLE`, `q25: NULL::DOUBLE`, `q50: NULL::DOUBLE`, `q75: NULL::DOUBLE`}
	isNumber := numeric(c.Type)
	if isNumber && mode != "quality" {
		members = append(members, `"avg": avg(`+number+`)`+finite, `std: stddev_samp(`+number+`)`+finite)
		for _, q := range []string{"25", "50", "75"} {
			members = append(members, `q`+q+`: approx_quantile(`+number+`, 0.`+q+`)`+finite)
		}
	} else {
		members = append(members, none...)
	}
	top, deciles := `[]::VARCHAR[]`, `[]::DOUBLE[]`
	if mode == "full" || mode == "distribution" {
		top = `coalesce(approx_top_k(left(` + name + `::VARCHAR, 256), 10), [])`
		if isNumber {
			deciles = `coalesce(approx_quantile(` + number + `, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])` + finite + `, [])`
		}
	}
	members = append(members, `top_values: `+top, `histogram: `+deciles)
	return "{" + strings.Join(members, ", ") + "}"
}

var numbers = map[string]bool{
	"TINYINT": true, "SMALLINT": true, "INTEGER": true, "BIGINT": true, "HUGEINT": true, "UTINYINT": true, "USMALLINT": true,
	"UINTEGER": true, "UBIGINT": true, "UHUGEINT": true, "FLOAT": true, "DOUBLE": true,
}

func numeric(kind string) bool {
	return numbers[kind] || strings.HasPrefix(kind, "DECIMAL(") && !strings.HasSuffix(kind, "]")
}

// correlate looks at pairs of the first columns of numbers.
func (p *Profile) correlate(ctx context.Context, conn *duck.Conn, table *Table) error {
	var names, parts []string
	for _, c := range table.Columns {
		if numeric(c.Type) && len(names) < correlated {
			names = append(names, c.Name)
		}
	}
	for i, a := range names {
		for j := i + 1; j < len(names); j++ {
			parts = append(parts, fmt.Sprintf(`{a: %d, b: %d, r: corr(CAST(%s AS DOUBLE), CAST(%s AS DOUBLE)) FILTER (isfinite(%[3]s::DOUBLE) AND isfinite(%[4]s::DOUBLE))}`,
				i, j, quote(a), quote(names[j])))
		}
	}
	for part := range slices.Chunk(parts, pairsAtOnce) {
		if err := p.correlatePairs(ctx, conn, table, names, part); err != nil {
			return err
		}
	}
	return nil
}

// correlatePairs asks for some pairs in one scan.
func (p *Profile) correlatePairs(ctx context.Context, conn *duck.Conn, table *Table, names, parts []string) error {
	text, err := conn.Text(ctx, `SELECT to_json([`+strings.Join(parts, ", ")+`])::VARCHAR FROM `+qualified(table.Bucket, table.Name))
	if err != nil {
		return err
	}
	var all []struct {
		A, B int
		R    *float64
	}
	if err := json.Unmarshal(withoutNaN([]byte(text), false), &all); err != nil {
		return fmt.Errorf("read the correlations: %w", err)
	}
	for _, one := range all {
		if one.R != nil {
			p.Correlations = append(p.Correlations, Correlation{names[one.A], names[one.B], math.Round(*one.R*1e6) / 1e6})
		}
	}
	return nil
}

// Bounds of what is an issue.
const (
	manyNulls   = 50.0 // percent
	fewerScore  = 10   // that a constant column costs
	scoreOfFull = 100
)

// judge scores the table: the part of its cells that hold a value, less something
// for columns that tell nothing. In mode basic the score alone is told.
func (p *Profile) judge(mode string) {
	if p.RowCount == 0 {
		p.QualityScore = scoreOfFull
		p.note(mode, Issue{Kind: "empty_table", Severity: "low", Detail: "the table has no rows"})
		return
	}
	filled, constant := 0.0, 0
	for _, s := range p.Statistics {
		filled += scoreOfFull - s.NullPercentage
		switch {
		case s.Count == 0:
			p.note(mode, Issue{s.ColumnName, "all_null", "high", "the column holds no value"})
		case s.NullPercentage >= manyNulls:
			p.note(mode, Issue{s.ColumnName, "many_nulls", "medium", fmt.Sprintf("%g %% of the column is NULL", s.NullPercentage)})
		}
		if s.Count > 1 && s.Min != nil && s.Max != nil && *s.Min == *s.Max && len(*s.Min) < 256 {
			constant++
			p.note(mode, Issue{s.ColumnName, "constant", "low", "the column holds one value"})
		}
	}
	n := float64(len(p.Statistics))
	p.QualityScore = math.Max(0, round(filled/n-fewerScore*float64(constant)/n))
}

func (p *Profile) note(mode string, issue Issue) {
	if mode != "basic" && mode != "distribution" {
		p.QualityIssues = append(p.QualityIssues, issue)
	}
}

func round(f float64) float64 { return math.Round(f*100) / 100 }
