package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/eiderdb/eider/core/audit"
)

// loggedFolder is a folder of a server that was stopped, and its newest row.
func loggedFolder(t *testing.T) (string, int64) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "d")
	s := serve(t, dir)
	for i := range 5 {
		s.Want(201, childKey, "POST /projects", fmt.Sprintf(`{"id":"p%d"}`, i))
	}
	head := s.head(t)
	s.stop(t)
	mustDo(t, os.WriteFile(filepath.Join(dir, "root.key"), []byte(childKey+"\n"), 0o600))
	return dir, head
}

// A start refuses a log that does not hold its newest checkpoint. What was done to it
// is named all the same, and stays as it is.
func TestAuditVerifyNamesWhatAStartRefuses(t *testing.T) {
	whole, head := loggedFolder(t)
	for _, c := range []struct {
		name       string
		code       int
		says       string
		statements []string
	}{
		{"moved", 11, fmt.Sprintf("reordered: row %d is row %d under another id", head+1, head), []string{fmt.Sprintf(`UPDATE operations_log SET id = id + 1 WHERE id >= %d`, head)}},
		{"altered with its hash", 11, fmt.Sprintf("is broken at row %d (altered)", head), []string{fmt.Sprintf(`UPDATE operations_log SET hash = prev_hash WHERE id = %d`, head)}},
		{"cut", 10, fmt.Sprintf("truncated: a checkpoint names row %d", head), []string{fmt.Sprintf(`DELETE FROM operations_log WHERE id = %d`, head)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := copyFolder(t, whole)
			change(t, dir, c.statements...)
			for range 2 {
				if r := runEider(t, "audit", "verify", "--data-dir", dir); r.code != c.code || !strings.Contains(r.message+r.out, c.says) {
					t.Errorf("it says %s %s, code %d", r.out, r.message, r.code)
				}
			}
		})
	}
}

// Each way to change the log behind the server's back is found, over the socket
// of a server that runs, and on the folder of one that does not.
func TestAuditVerifyFindsWhatWasChanged(t *testing.T) {
	whole, head := loggedFolder(t)
	for _, c := range []struct {
		name       string
		row        int64 // where it is found, 0: the log holds
		kind       string
		statements []string
	}{
		{"nothing", 0, "", nil},
		{"altered", 3, "altered", []string{`UPDATE operations_log SET actor_name = 'somebody else' WHERE id = 3`}},
		{"altered by a microsecond", 2, "altered", []string{`UPDATE operations_log SET timestamp = timestamp + INTERVAL 1 MICROSECOND WHERE id = 2`}},
		{"deleted", 4, "missing", []string{`DELETE FROM operations_log WHERE id = 4`}},
		{"first deleted", 1, "missing", []string{`DELETE FROM operations_log WHERE id = 1`}},
		{"inserted", 5, "inserted", []string{`INSERT INTO operations_log SELECT * FROM operations_log WHERE id = 5`}},
		{"swapped", 6, "reordered", []string{`UPDATE operations_log SET id = 13 - id WHERE id IN (6, 7)`}},
		{"all of it", 2, "altered", []string{
			`UPDATE operations_log SET details = '{}' WHERE id = 2`, `DELETE FROM operations_log WHERE id = 4`,
			`INSERT INTO operations_log SELECT * FROM operations_log WHERE id = 6`, `UPDATE operations_log SET id = 17 - id WHERE id IN (8, 9)`,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := copyFolder(t, whole)
			change(t, dir, c.statements...)
			check := func(from string, more ...string) {
				t.Helper()
				r := runEider(t, append([]string{"audit", "verify", "--data-dir", dir}, more...)...)
				if !strings.Contains(r.message, from+" "+dir) {
					t.Errorf("it does not say whom it asked: %s", r.message)
				}
				if c.row == 0 {
					if want := fmt.Sprintf("the log holds: rows 1 to %d, %d checked, checkpoints compared: 1\n", head, head); r.code != 0 || r.out != want {
						t.Errorf("it ended with %d: %s%s", r.code, r.out, r.message)
					}
					return
				}
				if want := fmt.Sprintf("the log is broken at row %d (%s): ", c.row, c.kind); r.code != 11 || !strings.Contains(r.message, want) {
					t.Errorf("it ended with %d, not with %q: %s", r.code, want, r.message)
				}
			}
			check("no server runs on")
			if c.row == 0 {
				check("no server runs on", "--archive")
			}
			s := serve(t, dir)
			defer s.stop(t)
			check("asking the server that runs on")
			if c.row > 3 { // what stands before the break holds
				if r := runEider(t, "audit", "verify", "--data-dir", dir, fmt.Sprintf("--to=%d", c.row-1)); r.code != 0 {
					t.Errorf("the rows before end with %d: %s", r.code, r.message)
				}
			}
			var v audit.Verification
			r := runEider(t, "audit", "verify", "--json", "--data-dir", dir)
			mustDo(t, json.Unmarshal([]byte(r.out), &v))
			if v.Verified != (c.row == 0) || c.row != 0 && (v.BrokenAt == nil || v.BrokenAt.ID != c.row || r.code != 11) {
				t.Errorf("as JSON it ended with %d: %s", r.code, r.out)
			}
			if c.name == "all of it" {
				r := runEider(t, "audit", "verify", "--data-dir", dir)
				for _, b := range v.Breaks {
					if !strings.Contains(r.out, b.Kind+": "+b.Detail) {
						t.Errorf("it does not name %+v: %s", b, r.out)
					}
				}
				if len(v.Breaks) != 5 { // two are swapped
					t.Errorf("as JSON it tells %s", r.out)
				}
			}
		})
	}
}

// A column of another type keeps a server from starting, and a verification from nothing.
func TestAuditVerifyNamesAColumnOfAnotherType(t *testing.T) {
	dir, _ := loggedFolder(t)
	change(t, dir, `ALTER TABLE operations_log ALTER timestamp TYPE VARCHAR`)
	for _, more := range [][]string{nil, {"--archive"}} {
		r := runEider(t, append([]string{"audit", "verify", "--data-dir", dir}, more...)...)
		if r.code != 11 || !strings.Contains(r.out, "altered: the column timestamp has the type VARCHAR") {
			t.Errorf("it ended with %d: %s%s", r.code, r.out, r.message)
		}
	}
}
