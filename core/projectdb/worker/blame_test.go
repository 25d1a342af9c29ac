package worker

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/duck"
	"github.com/eiderdb/eider/core/projectdb/gate"
	"github.com/eiderdb/eider/core/projectdb/wire"
	"google.golang.org/grpc"
)

// secret is part of every text and name of a type below, and a number as personal.
const secret = "SECRET"

// workerIn returns a worker of a folder that has no database.
func workerIn(t *testing.T) *worker {
	t.Helper()
	w := &worker{setup: wire.Setup{Folder: t.TempDir()}}
	for _, sub := range []string{inFile, outFile} {
		if err := os.Mkdir(filepath.Dir(w.path(sub)), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// fileOf returns a worker whose file is the text.
func fileOf(t *testing.T, text string) *worker {
	t.Helper()
	w := workerIn(t)
	if err := os.WriteFile(w.path(inFile), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return w
}

// deaf is a stream that nobody hears.
type deaf struct{ grpc.ServerStream }

func (deaf) SendMsg(any) error { return nil }

// withheld fails where the log would keep a value of a tenant.
func withheld(t *testing.T, what string, err error) {
	t.Helper()
	var e *eider.Error
	switch {
	case err == nil:
		t.Errorf("%s is not refused", what)
	case !errors.As(err, &e):
		t.Errorf("%s: %v", what, err)
	case e.Logged == "" && strings.Contains(e.Message, secret) || strings.Contains(e.Logged, secret) || strings.Contains(e.Logged, "4111"):
		t.Errorf("%s: the caller is told %q, and the log keeps %q", what, e.Message, e.Logged)
	}
}

func TestTheLogKeepsNoValueThatIsComplainedOf(t *testing.T) {
	conn := openProject(t, `CREATE SCHEMA b`, `CREATE TABLE b.t (id INTEGER PRIMARY KEY, n VARCHAR)`, `INSERT INTO b.t VALUES (1, 'SECRET'), (2, 'SECRET'), (4111, 'in line 41111111')`)
	w := workerIn(t)
	for _, sql := range []string{
		`select strptime('SECRETA','%Y')`, `select strptime(E'x\nin line 4111: SECRET','%Y')`, `select error('SECRETB ssn 4111')`, `select error(x) from (values ('SECRETC')) t(x)`,
		`select error('CSV Error on Line: 4111')`, `select cast('SECRETE' as int)`, `select regexp_matches('a','(SECRETG')`, `select date_trunc('SECRETI', now())`,
		`select 'a'::uuid, 'SECRETK'::interval`, `select timezone('SECRETL', now())`, `select format('{:SECRETN}',1)`, `select make_date(411199999,1,1)`, `select '4111-x-SECRETO'::timestamptz`,
		`select from_hex('SECRETP')`, `select cast('{SECRETQ' as json)`, `select list_aggregate([1],'SECRETR')`, `select union_extract(union_value(a:=1),'SECRETS')`, `select 4111999999::integer`,
		`select struct_extract({'a':1},'SECRETT')`, `select 'SECRETU' frm x`, `select nope_SECRET from b.t`, `select * from b.t where n`, `select 'SECRETV`, `select json_extract('{SECRETD','$')`,
	} {
		checked, err := gate.Select(t.Context(), conn, sql)
		if err == nil {
			err = w.blame(conn.Exec(t.Context(), checked.SQL), sql)
		}
		withheld(t, sql, err)
	}
	for _, sql := range []string{
		`INSERT INTO b.t VALUES (1, 'SECRET')`, `INSERT INTO b.t VALUES ('SECRET', '')`, `UPDATE b.t SET id = n`, `INSERT INTO b.t VALUES (4111, '')`,
		`INSERT INTO b.t SELECT 9, error('Duplicate key SECRET')`, `CREATE 'SECRET' x`, `CREATE 4111 x`, `DELETE FROM b.t WHERE n::INTEGER = 1`,
	} {
		checked, err := gate.Write(t.Context(), conn, sql)
		if err == nil {
			err = w.blame(conn.Exec(t.Context(), checked.SQL), sql)
		}
		withheld(t, sql, err)
	}
	withheld(t, "a key", blamed(conn.Exec(t.Context(), `CREATE UNIQUE INDEX i ON b.t (n)`), eider.InvalidPrimaryKey))
	withheld(t, "a type", blamed(conn.Exec(t.Context(), `ALTER TABLE b.t ALTER n SET DATA TYPE INTEGER`), eider.InvalidColumnType))
	_, err := checkDefault(t.Context(), conn, `'SECRET'`, "INTEGER")
	withheld(t, "a default", inColumn(0, err))
	_, err = checkType(t.Context(), conn, `ENUM('SECRET', 'SECRET')`)
	withheld(t, "an ENUM", err)
}

func TestTheLogKeepsNoValueOfAFile(t *testing.T) {
	conn := openProject(t, `CREATE SCHEMA b`, `CREATE TABLE b.t (id INTEGER PRIMARY KEY, n VARCHAR)`)
	for name, c := range map[string]struct{ format, content, keeps string }{
		"a cast":           {FormatCSV, "id,n\n1,a\nSECRET,b\n", "line 3"},
		"a number":         {FormatCSV, "id,n\n41119999999999,b\n", "line 2"},
		"twice a key":      {FormatCSV, "id,n\n4111,a\n4111,SECRET\n", "PRIMARY KEY or UNIQUE"},
		"no header":        {FormatCSV, "4111,SECRET\n4112,SECRET\n", "lacks a column"},
		"a field too many": {FormatCSV, "id,n\n1,b,SECRET in line 4111\n", "line 2"},
		"JSON":             {FormatJSON, `{"id":1,"n":"a"}` + "\n" + `{"id":"SECRET in line 4111"}` + "\n", "line 2: JSON transform error"},
		"no JSON":          {FormatJSON, `{"id":1` + "\n" + `SECRET`, "Malformed JSON"},
		"no Parquet":       {FormatParquet, "SECRET", ""},
	} {
		w := workerIn(t)
		if err := os.WriteFile(w.path(inFile), []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		in := importing{task: &task{worker: w, stream: deaf{}}, compression: "none", Import: Import{Bucket: "b", Table: "t", Format: c.format, Incremental: true,
			Dedup: DedupFail, CSV: CSV{Delimiter: ",", Quote: `"`, Escape: `"`, Header: true}}}
		_, err := in.run(t.Context(), conn)
		err = w.blameFile(err)
		withheld(t, name, err)
		if e := new(eider.Error); errors.As(err, &e) && !strings.Contains(e.Logged, c.keeps) {
			t.Errorf("%s: the caller is told %q, and the log keeps %q", name, e.Message, e.Logged)
		}
	}
}

func TestNothingIsKeptOfWhatErrorSays(t *testing.T) {
	for _, words := range []string{"SECRET", "Duplicate keys 4111", "Table with name SECRET"} {
		if got := gate.ForLog(duck.Complaint{Words: words}); strings.Contains(got, secret) || strings.Contains(got, "4111") {
			t.Errorf("%q is kept as %q", words, got)
		}
	}
}
