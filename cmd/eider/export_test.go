package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/eiderdb/eider/core/app/apptest"
	"github.com/eiderdb/eider/core/audit"
)

// objects returns the lines of an answer.
func objects(t *testing.T, text []byte) (all []map[string]any) {
	t.Helper()
	for line := range bytes.Lines(text) {
		var o map[string]any
		mustDo(t, json.Unmarshal(line, &o))
		all = append(all, o)
	}
	return all
}

func TestExportsHoldEveryRow(t *testing.T) {
	s := start(t, nil)
	for i := range 3 {
		project(t, s, fmt.Sprint("p", i))
	}
	s.Want(409, s.Root, "POST /projects", `{"id":"p0"}`)
	head := s.App.Kernel.Audit.Head().ID

	lines := s.Want(200, s.Root, "GET /operations/export", "")
	rows := objects(t, lines.Body)
	if int64(len(rows)) != head || lines.Header.Get("Content-Type") != "application/x-ndjson" {
		t.Fatalf("%d rows as %s, want %d", len(rows), lines.Header, head)
	}
	hash := strings.Repeat("0", 64)
	for i, row := range rows {
		if row["id"] != float64(i+1) || row["prev_hash"] != hash {
			t.Errorf("row %d does not follow: %v", i+1, row)
		}
		hash = row["hash"].(string)
	}
	apptest.Eventually(t, "the export has a row", func() bool {
		list := s.Want(200, s.Root, "GET /operations?operation=export_operations", "").List("operations")
		return len(list) == 1 && list[0]["status"] == "success" && list[0]["details"].(map[string]any)["rows"] == float64(head)
	})

	table, err := csv.NewReader(bytes.NewReader(s.Want(200, s.Root, "GET /operations/export?format=csv&operation=create_project", "").Body)).ReadAll()
	mustDo(t, err)
	if len(table) != 8 || table[0][0] != "id" || table[7][16] != "failed" { // two rows of each, and that of the refusal
		t.Errorf("the CSV is %v", table)
	}

	// Callers choose their ids, and an administrator opens the table in a spreadsheet.
	for _, chosen := range []string{`=HYPERLINK("http://evil","x")`, "+1", "-2+3", "@SUM(1)", "'quoted", "plain"} {
		s.Want(409, s.Root, "POST /projects", `{"id":"p0"}`, "X-Request-ID: "+chosen)
		written, err := csv.NewReader(bytes.NewReader(s.Want(200, s.Root, "GET /operations/export?format=csv&status=failed", "").Body)).ReadAll()
		mustDo(t, err)
		cell := written[len(written)-1][3]
		if (cell[0] == '\'') == (chosen == "plain") || strings.TrimPrefix(cell, "'") != chosen {
			t.Errorf("%s is written as %s", chosen, cell)
		}
	}

	path := filepath.Join(t.TempDir(), "o.parquet")
	file := s.Want(200, s.Root, "GET /operations/export?format=parquet", "")
	mustDo(t, os.WriteFile(path, file.Body, 0o600))
	read := 0
	var last []byte
	mustDo(t, audit.ReadParquet(context.Background(), path, 1, 1000, func(page []audit.Row) error {
		for _, r := range page {
			if read > 0 && !bytes.Equal(r.PrevHash, last) {
				t.Errorf("row %d of the Parquet file does not follow", r.ID)
			}
			last, read = r.Hash, read+1
		}
		return nil
	}))
	if int64(read) < head || file.Header.Get("Content-Length") != fmt.Sprint(len(file.Body)) {
		t.Errorf("the Parquet file has %d rows of %d", read, head)
	}
	if left, err := os.ReadDir(filepath.Join(s.Dir, "archive")); err != nil || len(left) > 0 {
		t.Errorf("an export leaves %v, %v", left, err)
	}

	event := objects(t, s.Want(200, s.Root, "GET /operations/export?format=cloudevents&status=failed", "").Body)[0]
	if event["specversion"] != "1.0" || event["id"] != fmt.Sprintf("0-%v", event["data"].(map[string]any)["id"]) || event["type"] != "io.eiderdb.operation.create_project" || event["data"].(map[string]any)["hash"] == "" {
		t.Errorf("an event is %v", event)
	}
	activity := objects(t, s.Want(200, s.Root, "GET /operations/export?format=ocsf&status=failed", "").Body)[0]
	if activity["class_uid"] != 6003.0 || activity["type_uid"] != 600301.0 || activity["status_id"] != 2.0 || activity["api"].(map[string]any)["operation"] != "create_project" {
		t.Errorf("an activity is %v", activity)
	}
	if none := s.Want(200, s.Root, "GET /operations/export?to=2020-01-01T00:00:00Z", ""); len(none.Body) > 0 {
		t.Errorf("before the first row there is %s", none.Body)
	}
	s.Want(422, s.Root, "GET /operations/export?format=xml", "")
	s.Want(403, s.Want(201, s.Root, "POST /projects", `{"id":"q"}`).Text("api_key"), "GET /operations/export", "")
}

// tailing is a client of GET /operations/tail.
type tailing struct {
	t    *testing.T
	body io.ReadCloser
	in   *bufio.Scanner
}

func tail(t *testing.T, s *apptest.Server, after string) *tailing {
	t.Helper()
	return tailAs(t, s, s.Root, after)
}

func tailAs(t *testing.T, s *apptest.Server, key, after string) *tailing {
	t.Helper()
	r, err := http.NewRequest("GET", s.URL+"/operations/tail", nil)
	mustDo(t, err)
	r.Header.Set("Authorization", "Bearer "+key)
	if after != "" {
		r.Header.Set("Last-Event-ID", after)
	}
	a, err := http.DefaultTransport.RoundTrip(r)
	mustDo(t, err)
	t.Cleanup(func() { a.Body.Close() })
	if a.StatusCode != 200 || a.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("it answered %d %s", a.StatusCode, a.Header)
	}
	f := &tailing{t, a.Body, bufio.NewScanner(a.Body)}
	f.in.Buffer(nil, 1<<20)
	f.until(": rows of the log follow")
	return f
}

// until reads up to the line that begins so, and returns it; "" at the end.
func (f *tailing) until(begin string) string {
	f.t.Helper()
	for f.in.Scan() {
		if strings.HasPrefix(f.in.Text(), begin) {
			return f.in.Text()
		}
	}
	return ""
}

func (f *tailing) next() (id int64) {
	f.t.Helper()
	_, err := fmt.Sscanf(f.until("id: "), "id: %d", &id)
	mustDo(f.t, err)
	return id
}

func TestTailGoesOnWithoutGapOrDuplicate(t *testing.T) {
	s := start(t, map[string]string{"audit.tail_heartbeat": "100ms"})
	seen := s.App.Kernel.Audit.Head().ID // before the tail, which has rows of its own
	f := tail(t, s, "")
	for i := range 3 {
		project(t, s, fmt.Sprint("first", i))
	}
	for range 5 {
		id := f.next()
		if id != seen+1 {
			t.Errorf("row %d comes behind %d", id, seen)
		}
		seen = id
	}
	mustDo(t, f.body.Close())
	for i := range 3 {
		project(t, s, fmt.Sprint("second", i))
	}
	f = tail(t, s, fmt.Sprint(seen))
	for range 12 { // those that were missed, and those of the tails themselves
		if id := f.next(); id != seen+1 {
			t.Errorf("row %d comes behind %d", id, seen)
		} else {
			seen = id
		}
		if seen == s.App.Kernel.Audit.Head().ID {
			break
		}
	}
	if f.until(": heartbeat") == "" {
		t.Error("there is no heartbeat")
	}
	s.Want(422, s.Root, "GET /operations/tail", "", "Last-Event-ID: 100000")
	s.Want(422, s.Root, "GET /operations/tail", "", "Last-Event-ID: x")
	s.Stop()
	if f.until("nothing") != "" || f.in.Err() != nil {
		t.Errorf("at a stop the tail ends with %v", f.in.Err())
	}
}

// A log that was restored gives ids out again: whoever has seen the rows that are lost is
// told so, and is given those that have their ids now.
func TestTailTellsOfRowsThatWereLost(t *testing.T) {
	s := start(t, nil)
	project(t, s, "p")
	s.Stop()
	head := s.App.Kernel.Audit.Head()
	mustDo(t, audit.WriteRepair(filepath.Join(s.Dir, "audit"), audit.Repair{
		Head: head.ID, Hash: hex.EncodeToString(head.Hash), Operation: "restore", Epoch: 77,
	}))
	s, err := startHere(t, s.Dir)
	mustDo(t, err)
	defer s.Stop()
	project(t, s, "q")
	project(t, s, "r")
	begun := head.ID + 1 // the row that tells of the restore
	for after, want := range map[string]struct {
		reset string
		first int64
	}{
		fmt.Sprint(begun + 3):         {fmt.Sprintf(`data: {"epoch":77,"next_id":%d,"seen":{"epoch":0,"id":%d}}`, begun, begun+3), begun},
		fmt.Sprint(begun + 1000):      {fmt.Sprintf(`data: {"epoch":77,"next_id":%d,"seen":{"epoch":0,"id":%d}}`, begun, begun+1000), begun},
		fmt.Sprint(begun - 1):         {"", begun},
		fmt.Sprintf("77-%d", begun+2): {"", begun + 3},
		fmt.Sprintf("0-%d", begun-2):  {"", begun - 1},
	} {
		f := tail(t, s, after)
		if want.reset != "" && (f.until("event: ") != "event: reset" || f.until("data: ") != want.reset) {
			t.Errorf("after %s it is not told: %s", after, f.in.Text())
		}
		id := fmt.Sprintf("id: 77-%d", want.first)
		if want.first < begun {
			id = fmt.Sprintf("id: %d", want.first)
		}
		if got := f.until("id: "); got != id {
			t.Errorf("after %s comes %s, not %s", after, got, id)
		}
		mustDo(t, f.body.Close())
	}
	for _, unknown := range []string{"77-100000", fmt.Sprintf("76-%d", begun), fmt.Sprintf("78-%d", begun), "77-", "-3", "77-x", "-1-3", "1-2-3"} {
		s.Want(422, s.Root, "GET /operations/tail", "", "Last-Event-ID: "+unknown)
	}
}

// Who has lost the key sees nothing of what happens afterwards.
func TestTailEndsWithItsKey(t *testing.T) {
	s := start(t, map[string]string{"audit.tail_heartbeat": "100ms"})
	made := s.Want(201, s.Root, "POST /api-keys", `{"description":"reader"}`)
	f, byRoot := tailAs(t, s, made.Text("api_key"), ""), tail(t, s, "")
	project(t, s, "before")
	if f.until("id: ") == "" {
		t.Fatal("the tail shows nothing")
	}
	s.Want(204, s.Root, "DELETE /api-keys/"+made.Text("id"), "")
	project(t, s, "after")
	if line := f.until(": the key"); line == "" {
		t.Error("the tail does not say why it ends")
	}
	for range 2 { // the empty line behind what it said, and the end
		if line := f.until(""); line != "" || f.in.Err() != nil {
			t.Errorf("it goes on with %q, %v", line, f.in.Err())
		}
	}
	byRoot.next() // it is there still
	s.App.Kernel.Keys.SetRoot("another root key, of an operator")
	if byRoot.until(": the key") == "" {
		t.Error("the tail of a root key goes on that was replaced")
	}
}
