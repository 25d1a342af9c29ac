package audit_test

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/eiderdb/eider/core/audit"
	"github.com/eiderdb/eider/core/disk"
	"github.com/eiderdb/eider/core/waittest"
)

// written returns the ids of the rows in the file and those that were full, oldest
// first, and checks the checkpoints between them.
func (r *register) written(path string) (ids []int64, files int) {
	r.Helper()
	old, err := filepath.Glob(path + ".*")
	must(r, err)
	slices.Sort(old)
	for _, name := range append(old, path) {
		f, err := os.Open(name)
		must(r, err)
		defer f.Close()
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var line struct {
				ID         int64
				Hash       string
				Epoch      *int64
				Checkpoint *audit.Checkpoint
			}
			if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
				r.Fatalf("%s: %v: %s", name, err, lines.Text())
			}
			if c := line.Checkpoint; c != nil {
				if !r.signer.Valid(*c) || c.ID != ids[len(ids)-1] {
					r.Errorf("the checkpoint behind row %d is %+v", ids[len(ids)-1], c)
				}
				continue
			}
			if line.Epoch == nil || line.Hash == "" {
				r.Errorf("the line is %s", lines.Text())
			}
			ids = append(ids, line.ID)
		}
	}
	return ids, len(old) + 1
}

func TestFileSinkWritesLinesAndBeginsAnotherFileWhenOneIsFull(t *testing.T) {
	r := begin(t)
	path := filepath.Join(t.TempDir(), "operations.ndjson")
	s := &audit.File{Path: path, MaxSize: 20_000, Files: &disk.FS{}}
	f := r.sinks()
	stop := run(f, audit.FileSink, s.Take)
	for range 5 {
		r.stage(rows(30)...)
		at := r.log.Head().ID
		waittest.Until(t, "they are written", func() bool { return state(f, audit.FileSink).Cursor == at })
	}
	must(t, stop())
	must(t, s.Close())
	ids, files := r.written(path)
	wantInOrder(t, "the files", ids, 1, 150)
	if files < 3 {
		t.Errorf("there are %d files", files)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info.Mode(), err)
	}
	// Fewer are kept from now on.
	s.Keep = 1
	batch := r.batch(1, 100)
	for i := range batch.Rows {
		batch.Rows[i].ID += 200
	}
	_, err := s.Take(t.Context(), batch)
	must(t, err)
	must(t, s.Close())
	if old, _ := filepath.Glob(path + ".*"); len(old) != 1 {
		t.Errorf("%d old files are kept", len(old))
	}
}

// batch returns rows of the log as sinks are given them.
func (r *register) batch(first, last int64) (out audit.Batch) {
	r.Helper()
	f := r.sinks()
	got := make(chan audit.Batch, 1)
	stop := run(f, "batch", func(ctx context.Context, b audit.Batch) (int64, error) {
		b.Rows = slices.Clone(b.Rows)
		select {
		case got <- b:
		default:
		}
		<-ctx.Done()
		return 0, ctx.Err()
	})
	out = <-got
	if err := stop(); err == nil {
		r.Error("it has not waited")
	}
	out.Rows = slices.DeleteFunc(out.Rows, func(r audit.Row) bool { return r.ID < first || r.ID > last })
	return out
}

// A server that is killed before its cursor is durable gives rows again; one that is
// killed while it writes leaves half a line; between two files there may be none.
func TestFileSinkLeavesNoDuplicateNoGapAndNoHalfLine(t *testing.T) {
	r := begin(t)
	r.stage(rows(40)...)
	all := r.batch(1, 40)
	part := func(first, last int64) audit.Batch {
		b := all
		b.Rows = all.Rows[first-1 : last]
		return b
	}
	for name, crash := range map[string]func(t *testing.T, path string){
		"nothing":     func(*testing.T, string) {},
		"half a line": func(t *testing.T, path string) { appendTo(t, path, `{"epoch":0,"id":2`) },
		"a whole row": func(t *testing.T, path string) { appendTo(t, path, `{"epoch":0,"id":21,"hash":"x"}`+"\n") },
		"no new file": func(t *testing.T, path string) { must(t, os.Rename(path, path+".20260101T000000.000000Z")) },
		"an empty one": func(t *testing.T, path string) {
			must(t, os.Rename(path, path+".20260101T000000.000000Z"))
			appendTo(t, path, "")
		},
		"half a line alone": func(t *testing.T, path string) {
			must(t, os.Rename(path, path+".20260101T000000.000000Z"))
			appendTo(t, path, `{"ep`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "operations.ndjson")
			s := &audit.File{Path: path, MaxSize: 1 << 20, Files: &disk.FS{}}
			for _, b := range []audit.Batch{part(1, 10), part(11, 20)} {
				last, err := s.Take(t.Context(), b)
				must(t, err)
				if last != b.Rows[len(b.Rows)-1].ID {
					t.Errorf("it has taken %d", last)
				}
			}
			must(t, s.Close())
			crash(t, path)
			s = &audit.File{Path: path, MaxSize: 1 << 20, Files: &disk.FS{}}
			for _, b := range []audit.Batch{part(11, 25), part(26, 40)} { // the cursor was at 10
				_, err := s.Take(t.Context(), b)
				must(t, err)
			}
			must(t, s.Close())
			ids, _ := r.written(path)
			wantInOrder(t, name, ids, 1, 40)
		})
	}
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	must(t, err)
	_, err = f.WriteString(text)
	must(t, err)
	must(t, f.Close())
}

// The same ids name other rows in another epoch; and a file that somebody takes away
// is begun again.
func TestFileSinkKnowsEpochsAndFilesThatAreTakenAway(t *testing.T) {
	r := begin(t)
	r.stage(rows(10)...)
	b := r.batch(1, 10)
	path := filepath.Join(t.TempDir(), "operations.ndjson")
	s := &audit.File{Path: path, MaxSize: 1 << 20, Files: &disk.FS{}}
	take := func() {
		t.Helper()
		_, err := s.Take(t.Context(), b)
		must(t, err)
	}
	take()
	take() // again
	b.Epoch = 70
	take()
	if ids, _ := r.written(path); len(ids) != 20 {
		t.Errorf("there are %d rows", len(ids))
	}
	must(t, os.Rename(path, path+"-elsewhere"))
	b.Epoch = 80
	take()
	must(t, s.Close())
	if ids, _ := r.written(path); len(ids) != 10 {
		t.Errorf("there are %d rows in the new file", len(ids))
	}
}
