package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// row is one line. What was not measured is zero and stays blank.
type row struct {
	Group     string        `json:"group"`
	What      string        `json:"what"`
	PerSecond float64       `json:"per_second,omitempty"`
	P50       time.Duration `json:"p50_ns,omitempty"`
	P99       time.Duration `json:"p99_ns,omitempty"`
	CPU       time.Duration `json:"cpu_ns_per_request,omitempty"` // of the server and its workers, all threads
	Memory    int64         `json:"resident_bytes,omitempty"`     // of the server
	// Ratio is of two figures of this run; Of names them.
	Ratio float64 `json:"ratio,omitempty"`
	Of    string  `json:"ratio_of,omitempty"`
	Bar   string  `json:"bar,omitempty"` // what the design asks for
}

// table is what the groups fill, one after another.
type table struct {
	group string
	rows  []row
	notes []string
}

func (t *table) add(r row) {
	r.Group = t.group
	t.rows = append(t.rows, r)
}

// note adds a sentence below the table, once.
func (t *table) note(text string) {
	if !slices.Contains(t.notes, text) {
		t.notes = append(t.notes, text)
	}
}

var heads = []string{"", "per second", "p50", "p99", "CPU/request", "resident", "ratio", "", "bar"}

// leftmost are the columns of words; figures stand to the right.
var words = map[int]bool{0: true, 7: true, 8: true}

// write prints the rows aligned, with a blank line between groups.
func (t *table) write(w io.Writer) error {
	lines := [][]string{heads}
	for i, r := range t.rows {
		if i > 0 && r.Group != t.rows[i-1].Group {
			lines = append(lines, nil)
		}
		lines = append(lines, r.cells())
	}
	widths := make([]int, len(heads))
	for _, line := range lines {
		for i, cell := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var text strings.Builder
	for _, line := range lines {
		text.WriteString(aligned(line, widths) + "\n")
	}
	for _, note := range t.notes {
		text.WriteString("\n" + note + "\n")
	}
	_, err := io.WriteString(w, text.String())
	return err
}

func aligned(line []string, widths []int) string {
	var text strings.Builder
	for i, cell := range line {
		space := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
		if i > 0 && widths[i] > 0 {
			text.WriteString("  ")
		}
		if words[i] {
			text.WriteString(cell + space)
		} else {
			text.WriteString(space + cell)
		}
	}
	return strings.TrimRight(text.String(), " ")
}

func (r row) cells() []string {
	ratio := ""
	if r.Ratio > 0 {
		ratio = figure(r.Ratio) + " x"
	}
	return []string{r.What, perSecond(r.PerSecond), duration(r.P50), duration(r.P99), duration(r.CPU), size(r.Memory), ratio, r.Of, r.Bar}
}

// save writes the rows for programs.
func (t *table) save(path string) error {
	text, err := json.MarshalIndent(map[string]any{"rows": t.rows, "notes": t.notes}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// figure writes a number with about three digits that count.
func figure(v float64) string {
	switch {
	case v >= 100:
		return thousands(int64(v + 0.5))
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func thousands(v int64) string {
	if v < 1000 {
		return fmt.Sprint(v)
	}
	return thousands(v/1000) + fmt.Sprintf(",%03d", v%1000)
}

func perSecond(v float64) string {
	if v == 0 {
		return ""
	}
	return figure(v)
}

func duration(d time.Duration) string {
	switch {
	case d == 0:
		return ""
	case d < time.Millisecond:
		return figure(float64(d)/float64(time.Microsecond)) + " us"
	case d < 10*time.Second:
		return figure(float64(d)/float64(time.Millisecond)) + " ms"
	}
	return figure(d.Seconds()) + " s"
}

func size(bytes int64) string {
	if bytes == 0 {
		return ""
	}
	return figure(float64(bytes)/(1<<20)) + " MiB"
}
