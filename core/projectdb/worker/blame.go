package worker

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/duck"
	"github.com/eiderdb/eider/core/projectdb/gate"
)

// selects and writes are the gate.
func (w *worker) selects(ctx context.Context, conn *duck.Conn, sql string) (gate.Checked, error) {
	checked, ok := w.passed.find(sql)
	if ok {
		return checked, nil
	}
	checked, err := gate.Select(ctx, conn, sql)
	if err == nil && checked.Lasting {
		w.passed.keep(sql, checked)
	}
	return checked, err
}

func (w *worker) writes(ctx context.Context, conn *duck.Conn, sql string) (gate.Checked, error) {
	return gate.Write(ctx, conn, sql)
}

// blame gives an error of a tenant's statement the code by which its author is
// told. sql is the statement as it was written.
func (w *worker) blame(err error, sql string) error {
	var refusal *eider.Error
	if err == nil || errors.As(err, &refusal) {
		return err
	}
	complaint, ok := duck.Complains(err)
	if !ok {
		return err // explain has words for it
	}
	code, at := eider.QueryFailed, ""
	switch {
	case complaint.Kind == duck.ComplaintMemory:
		return w.outOfMemory()
	case duplicate(complaint):
		code = eider.DuplicateKeyValue
	case complaint.Kind == duck.ComplaintDenied:
		code = eider.StatementNotAllowed
	default:
		at = written(complaint, sql)
	}
	return eider.Errorf(code, "%s%s", w.discreet(complaint.Words), at).LoggedAs(gate.ForLog(complaint) + at)
}

// duplicate reports whether the complaint is of a key that is there twice.
func duplicate(c duck.Complaint) bool {
	return c.Kind == duck.ComplaintConstraint && strings.Contains(c.Words, "uplicate key")
}

func (w *worker) outOfMemory() error {
	return eider.Errorf(eider.OutOfMemory, "the statement needs more memory than the project may use: the limit is %d MiB", w.setup.MemoryLimit>>20)
}

// fileLine is where DuckDB tells the line of a CSV or JSON file, and fileColumn
// the column.
var (
	fileLine   = regexp.MustCompile(`(?:CSV Error on Line: |in line |in record/value )(\d+)`)
	fileColumn = regexp.MustCompile(`Error when converting column "([^"]*)"`)
)

// blameFile gives an error of an import the code by which its caller is told.
func (w *worker) blameFile(err error) error {
	var refusal *eider.Error
	if err == nil || errors.As(err, &refusal) {
		return err
	}
	complaint, ok := ofFile(err)
	switch {
	case !ok:
		return err
	case complaint.Kind == duck.ComplaintMemory:
		return w.outOfMemory()
	case duplicate(complaint):
		return eider.Errorf(eider.DuplicateKeyValue, "%s", w.told(complaint.Words)).LoggedAs(w.logged(complaint))
	}
	return eider.Errorf(eider.ImportFailed, "%s", w.told(complaint.Words)).LoggedAs(w.logged(complaint))
}

// ofFile is duck.Complains for an error of a file that is read: DuckDB takes some
// that are no CSV or Parquet for failures of the disk.
func ofFile(err error) (c duck.Complaint, ok bool) {
	if c, ok = duck.Complains(err); !ok && errors.Is(err, duck.ErrIO) {
		_, c.Words, ok = strings.Cut(err.Error(), "IO Error: ")
	}
	return c, ok
}

// logged is what the log keeps of what DuckDB says of a file: the place, where
// that stands before any value.
func (w *worker) logged(c duck.Complaint) string {
	kept := gate.ForLog(c)
	if m := loggedLine.FindStringSubmatch(w.discreet(c.Words)); m != nil {
		return "line " + m[1] + ": " + kept
	}
	return kept
}

var loggedLine = regexp.MustCompile(`^(?:CSV Error on Line: |[A-Za-z ]{1,40} "the file",? [a-z0-9 ]{0,40}in (?:line|record/value) )(\d{1,12})\b`)

// told is what DuckDB says of a file: the place first, then the sentence. The
// line itself and advice on settings are left out.
func (w *worker) told(words string) string {
	words = w.discreet(words)
	var place []string
	if m := fileLine.FindStringSubmatch(words); m != nil {
		place = append(place, "line "+m[1])
	}
	if m := fileColumn.FindStringSubmatch(words); m != nil {
		place = append(place, "column "+clipped(m[1]))
	}
	sentence, _, _ := strings.Cut(strings.TrimSpace(words), "\n")
	if _, rest, found := strings.Cut(words, "Original Line: "); found {
		sentence = "the line is not what the file's other lines and the table ask for"
		if at := csvSentence.FindStringSubmatch(rest); at != nil {
			sentence = at[1]
		}
	}
	return strings.Join(append(place, clip(sentence)), ": ")
}

// csvSentence finds what DuckDB says of a line behind the line itself, which may
// have ends of line in it.
var csvSentence = regexp.MustCompile(`(?m)^(?:Error when converting column "[^"]*"\. )?((?:Could not convert|Expected Number of Columns|Invalid unicode|Value with unterminated|Maximum line size|The CSV Parser).*)$`)

// clip bounds a sentence that may repeat a value.
func clip(s string) string {
	if len(s) > 500 {
		return strings.ToValidUTF8(s[:500], "") + "..."
	}
	return s
}

// discreet takes the server's paths out of a text of DuckDB.
func (w *worker) discreet(words string) string {
	words = strings.ReplaceAll(words, w.path(inFile), "the file")
	words = strings.ReplaceAll(words, w.path(outFile), "the file")
	return strings.ReplaceAll(words, w.setup.Folder, "the project")
}

// token is what an error may point at.
var token = regexp.MustCompile(`^("(?:[^"]|"")*"|[\pL_][\pL\pN_$]*|'(?:[^']|'')*'|[0-9.]+)`)

// written tells where in the statement as it was written the complaint points.
// What was run is another text: so only a word that is there once is known.
func written(c duck.Complaint, sql string) string {
	if c.Line == 0 || c.Offset >= len(c.Shown) {
		return ""
	}
	word := token.FindString(c.Shown[c.Offset:])
	at, ok := only(sql, word)
	if !ok && strings.HasPrefix(word, `"`) {
		at, ok = only(sql, strings.Trim(word, `"`))
	}
	if !ok {
		return ""
	}
	return fmt.Sprintf(" (at character %d)", at+1)
}

// only returns where the word stands, if that is in one place.
func only(sql, word string) (at int, ok bool) {
	if word == "" {
		return 0, false
	}
	places := regexp.MustCompile(`(?i)(?:^|[^\pL\pN_$"'])(`+regexp.QuoteMeta(word)+`)(?:[^\pL\pN_$"']|$)`).FindAllStringSubmatchIndex(sql, 2)
	if len(places) != 1 {
		return 0, false
	}
	return places[0][2], true
}
