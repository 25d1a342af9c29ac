package gate_test

import (
	"context"
	"strings"
	"testing"

	"github.com/eiderdb/eider"
	"github.com/eiderdb/eider/core/projectdb/gate"
)

func TestSelectSaysWhatItIs(t *testing.T) {
	conn := connect(t, locked(t, "", statements(t, "testdata/setup.sql")))
	for sql, want := range map[string]string{
		"SELECT name FROM shop.people WHERE id=1": "select",
		"explain analyze FROM shop.people":        "explain",
		"DESCRIBE shop.people":                    "select",
	} {
		checked, err := gate.Select(context.Background(), conn, sql)
		if err != nil || checked.Kind != want {
			t.Errorf("%s: %q, %v", sql, checked.Kind, err)
		}
	}
}

func TestWriteSaysWhatItChanges(t *testing.T) {
	conn := connect(t, locked(t, "", statements(t, "testdata/setup.sql")))
	for sql, want := range map[string]gate.Checked{
		"INSERT INTO plain VALUES (1)":                                         {Kind: "insert", Target: gate.Name{Table: "plain"}},
		"WITH x AS (SELECT 1) DELETE FROM shop.people":                         {Kind: "delete", Target: gate.Name{Schema: "shop", Table: "people"}},
		`UPDATE "shop"."odd ""name" SET "a b" = 1`:                             {Kind: "update", Target: gate.Name{Schema: "shop", Table: `odd "name`}},
		"CREATE TABLE shop.n AS SELECT 1":                                      {Kind: "create table", Target: gate.Name{Schema: "shop", Table: "n"}},
		"CREATE VIEW shop.n AS SELECT 1":                                       {Kind: "create view", Target: gate.Name{Schema: "shop", Table: "n"}},
		"MERGE INTO plain USING plain AS p USING (a) WHEN MATCHED THEN DELETE": {Kind: "merge", Target: gate.Name{Table: "plain"}},
	} {
		checked, err := gate.Write(context.Background(), conn, sql)
		checked.SQL = ""
		if err != nil || checked != want {
			t.Errorf("%s: %+v, %v", sql, checked, err)
		}
	}
}

// A name that means a table now and would mean a file without it is looked up each
// time.
func TestOnlyWhatNeedsNoLookUpIsLasting(t *testing.T) {
	conn := connect(t, locked(t, "", statements(t, "testdata/setup.sql")))
	for sql, want := range map[string]bool{
		"SELECT a FROM plain": true, "SELECT lower(name) FROM shop.people WHERE id = ?": true, "EXPLAIN SELECT 1": true,
		"SELECT a FROM shop.csv": false, "SELECT * FROM pg_notes": false, "SELECT (SELECT max(a) FROM csv.json) AS m": false,
	} {
		checked, err := gate.Select(context.Background(), conn, sql)
		if err != nil || checked.Lasting != want {
			t.Errorf("%s: lasting %t, %v", sql, checked.Lasting, err)
		}
	}
}

func TestQuestionMarksKeepTheirOrderAcrossThePiecesOfAWrite(t *testing.T) {
	conn := connect(t, locked(t, "", statements(t, "testdata/setup.sql")))
	checked, err := gate.Write(context.Background(), conn, "UPDATE plain SET a = ? WHERE a = ? AND '?' <> ?")
	if want := `UPDATE "plain" SET "a" = ($1) WHERE (((a = $2) AND ('?' != $3)))`; err != nil || checked.SQL != want {
		t.Errorf("%s, %v", checked.SQL, err)
	}
}

func TestRefusalsSayWhatAndWhere(t *testing.T) {
	ctx := context.Background()
	conn := connect(t, locked(t, "", statements(t, "testdata/setup.sql")))
	reads := func(sql string) error { _, err := gate.Select(ctx, conn, sql); return err }
	writes := func(sql string) error { _, err := gate.Write(ctx, conn, sql); return err }
	where := func(sql string) error { _, err := gate.Where(ctx, conn, sql); return err }
	kind := func(sql string) error { _, err := gate.Type(ctx, conn, sql); return err }
	for _, c := range []struct {
		check func(string) error
		input string
		code  eider.Code
		says  string
	}{
		{reads, "SELECT a FRM plain", eider.QueryFailed, `syntax error at or near "plain" (at character 14)`},
		{reads, "EXPLAIN SELECT a FRM plain", eider.QueryFailed, `(at character 22)`},
		{reads, "SELECT lowr('A')", eider.QueryFailed, "there is no function lowr (at character 8)"},
		{reads, "SELECT * FROM read_csv('x')", eider.StatementNotAllowed, "the function read_csv is not allowed: it reads files (at character 15)"},
		{reads, "DROP TABLE plain", eider.StatementNotAllowed, "DROP is not allowed here (at character 1)"},
		{reads, "DELETE FROM plain", eider.StatementNotAllowed, "DELETE changes something, which a statement may in mode write alone (at character 1)"},
		{reads, "PIVOT plain ON a USING count(*)", eider.StatementNotAllowed, "a PIVOT names its values"},
		{reads, "SHOW TABLES", eider.StatementNotAllowed, "information_schema"},
		{reads, "SELECT 1; SELECT 2", eider.StatementNotAllowed, "there are 2"},
		{reads, "SELECT * FROM data.csv", eider.StatementNotAllowed, `there is no table "data.csv" in the project`},
		{writes, "UPDATE plain SET a = 1 +", eider.QueryFailed, "(at character 25)"},
		{writes, "UPDATE plain SET a = getvariable('x')", eider.StatementNotAllowed, "(at character 22)"},
		{writes, "UPDATE plain SET nope = 1", eider.QueryFailed, `column nope not found`},
		{writes, "INSERT INTO plain VALUES (1, 2)", eider.QueryFailed, "has 1 columns but 2 values"},
		{writes, "DROP TABLE plain", eider.StatementNotAllowed, "DROP is not allowed: INSERT, UPDATE"},
		{where, "a = 1) OR (1 = 1", eider.InvalidWhereClause, "the bracket ) closes none (at character 6)"},
		{where, "a = nextval('x')", eider.InvalidWhereClause, "projects have no sequences (at character 5)"},
		{where, " -- nothing", eider.InvalidWhereClause, "the condition is empty"},
		{kind, "INT[0]", eider.InvalidColumnType, "the type does not take these parameters"},
		{kind, "MAP(INT)", eider.InvalidColumnType, "the type does not take these parameters"},
		{kind, "INTEGR", eider.InvalidColumnType, "Type with name INTEGR does not exist"},
	} {
		err := c.check(c.input)
		if eider.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %s: %s", c.input, err, c.code, c.says)
		}
	}
}

func TestWhereIsOneConditionAndRunsAsSuch(t *testing.T) {
	ctx := context.Background()
	conn := connect(t, locked(t, "", statements(t, "testdata/setup.sql")))
	for clause, want := range map[string]string{
		"a = 2":                                  "1",
		"a = 2 -- and more":                      "1",
		"a > 1 OR a < 2 /* x */":                 "3",
		"a IN (SELECT a FROM plain WHERE a < 3)": "2",
		"'a) OR (b' = 'x'":                       "0",
		"a BETWEEN 1 AND 2 AND NOT a = 1":        "1",
		"CASE a WHEN 1 THEN true ELSE false END": "1",
		"COLUMNS(*) > 2":                         "1",
		"(a) IS NOT NULL;":                       "3",
	} {
		where, err := gate.Where(ctx, conn, clause)
		if err != nil {
			t.Errorf("%s: %v", clause, err)
			continue
		}
		if n, err := conn.Text(ctx, "SELECT count(*)::VARCHAR FROM plain WHERE "+where+" AND true"); err != nil || n != want {
			t.Errorf("%s as %s: %s, %v", clause, where, n, err)
		}
	}
}

func TestTypesAreWrittenAsDuckDBWritesThem(t *testing.T) {
	ctx := context.Background()
	conn := connect(t, locked(t, "", nil))
	for text, want := range map[string]string{
		"int4": "INTEGER", " text ": "VARCHAR", "varchar(20)": "VARCHAR", "decimal": "DECIMAL(18,3)", "NUMERIC(10, 2)": "DECIMAL(10,2)",
		"int[]": "INTEGER[]", "double precision[3][]": "DOUBLE[3][]", "struct(a int, \"b c\" text)": `STRUCT(a INTEGER, "b c" VARCHAR)`,
		"map(text, int[])": "MAP(VARCHAR, INTEGER[])", "union(a int, b text)": "UNION(a INTEGER, b VARCHAR)", "enum('a', 'b''c')": "ENUM('a', 'b''c')",
		"json": "JSON", "uuid": "UUID", "timestamptz": "TIMESTAMP WITH TIME ZONE", "timestamp_ns": "TIMESTAMP_NS", "hugeint": "HUGEINT",
		"blob": "BLOB", "bit": "BIT", "interval": "INTERVAL", "time": "TIME", "date": "DATE", "bool": "BOOLEAN", "bignum": "BIGNUM",
	} {
		got, err := gate.Type(ctx, conn, text)
		if err != nil || got != want {
			t.Errorf("%s: %s, %v", text, got, err)
		}
		again, err := gate.Type(ctx, conn, got)
		if err != nil || again != got {
			t.Errorf("%s again: %s, %v", got, again, err)
		}
		if err := conn.Exec(ctx, "CREATE OR REPLACE TABLE made (c "+got+")"); err != nil {
			t.Errorf("%s: %v", got, err)
		}
	}
}

func TestDefaultsAreConstantOrOfTheMoment(t *testing.T) {
	ctx := context.Background()
	conn := connect(t, locked(t, "", nil))
	for text, kind := range map[string]string{
		"'x'": "VARCHAR", "1 + 2": "INTEGER", "-1.5": "DOUBLE", "NULL": "INTEGER", "true": "BOOLEAN", "now()": "TIMESTAMPTZ", "uuid()": "UUID",
		"current_timestamp": "TIMESTAMPTZ", "current_date + INTERVAL 3 DAYS": "TIMESTAMP", "'2024-01-01'::DATE": "DATE", "[1, 2]": "INTEGER[]",
		"{'a': 1}": "STRUCT(a INTEGER)", "MAP {'a': 1}": "MAP(VARCHAR, INTEGER)", "coalesce(NULL, 1)": "INTEGER", "'a' || 'b'": "VARCHAR",
		"get_current_timestamp()": "TIMESTAMPTZ", "random()": "DOUBLE", "1e3": "DOUBLE", "'{}'": "JSON", "'a'": "ENUM('a')",
	} {
		value, err := gate.Default(ctx, conn, text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if err := conn.Exec(ctx, "CREATE OR REPLACE TABLE made (i INTEGER, c "+kind+" DEFAULT "+value+")"); err != nil {
			t.Errorf("%s as %s: %v", text, value, err)
		}
		if err := conn.Exec(ctx, "INSERT INTO made (i) VALUES (1)"); err != nil {
			t.Errorf("%s as %s: %v", text, value, err)
		}
	}
}

func TestQuotedNamesAreNamesWhateverTheyHold(t *testing.T) {
	ctx := context.Background()
	conn := connect(t, locked(t, "", nil))
	for _, name := range []string{`a`, `A b`, `"`, `a"; DROP TABLE x; --`, `select`, `日本`, `'`, `a.b`, `\`, `""`} {
		got, err := conn.Text(ctx, "SELECT "+gate.Quote(name)+" FROM (SELECT 'found') AS t("+gate.Quote(name)+")")
		if err != nil || got != "found" {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
}

func TestForeignNamesWhatGivesOtherMeanings(t *testing.T) {
	ctx := context.Background()
	for setup, want := range map[string]string{
		"CREATE TABLE x (a INTEGER)":                           "",
		"CREATE MACRO lower(x) AS getvariable(x)":              "macro main.lower",
		"CREATE MACRO range(x) AS TABLE SELECT * FROM glob(x)": "macro main.range",
		"CREATE TYPE mood AS ENUM ('a')":                       "type main.mood",
		"CREATE SEQUENCE s":                                    "sequence main.s",
	} {
		got, err := gate.Foreign(ctx, connect(t, locked(t, "", []string{setup})))
		if err != nil || got != want {
			t.Errorf("%s: %q, %v", setup, got, err)
		}
	}
}
