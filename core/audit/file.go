package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/eiderdb/eider/core/disk"
)

// SinkRow is a row of the log as sinks are given it.
type SinkRow struct {
	Operation
	ProjectUID string `json:"project_uid"`
	IntentID   int64  `json:"intent_id"`
}

// Sink returns the row as sinks are given it.
func (r *Row) Sink() SinkRow { return SinkRow{r.Evidence(), r.ProjectUID, r.IntentID} }

// FileSink is the name of the sink that writes a file.
const FileSink = "file"

// File is a sink that writes rows as lines of JSON into a file, and the checkpoint of
// its last row behind each batch:
//
//	cut what a crash has left of a line, see which row was written last
//	write the batch behind it, sync; only now is it taken
//	where it would grow beyond MaxSize: rename it, sync its folder, begin another
//
// A row that stands in the file already, with its epoch, is not written again: a
// server that was killed before its cursor was durable leaves no duplicate.
type File struct {
	Path    string
	MaxSize int64
	Keep    int // how many renamed files are kept; 0: all
	Files   *disk.FS

	file *os.File
	size int64
	last written
}

// written is the row that a line tells of.
type written struct {
	Epoch      int64       `json:"epoch"`
	ID         int64       `json:"id"`
	Checkpoint *Checkpoint `json:"checkpoint,omitempty"`
}

// fileRows is how many rows are written and synced at a time.
const fileRows = 1000

// Follower returns the sink as a follower of the log.
func (s *File) Follower() Follower { return Follower{Name: FileSink, Take: s.Take} }

// Take writes the first rows of the batch.
func (s *File) Take(_ context.Context, b Batch) (last int64, err error) {
	if err := s.open(); err != nil {
		return 0, err
	}
	rows := b.Rows[:min(len(b.Rows), fileRows)]
	last = rows[len(rows)-1].ID
	if s.last.Epoch == b.Epoch {
		rows = behind(rows, s.last.ID)
	}
	if len(rows) == 0 {
		return last, nil
	}
	lines, err := linesOf(b, rows)
	if err != nil {
		return 0, err
	}
	if s.size > 0 && s.size+int64(len(lines)) > s.MaxSize {
		if err := s.rotate(); err != nil {
			return 0, errors.Join(err, s.Close())
		}
	}
	_, err = s.file.Write(lines)
	if err == nil {
		err = s.file.Sync()
	}
	if err != nil {
		// What the disk did not take must not be found in the file by the next try, and
		// half a line must not stand before another.
		return 0, fmt.Errorf("write the log: %w", errors.Join(err, s.file.Truncate(s.size), s.Close()))
	}
	s.size += int64(len(lines))
	s.last = written{Epoch: b.Epoch, ID: last}
	return last, nil
}

func linesOf(b Batch, rows []Row) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	for i := range rows {
		line := struct {
			Epoch int64 `json:"epoch"`
			SinkRow
		}{b.Epoch, rows[i].Sink()}
		if err := enc.Encode(line); err != nil {
			return nil, fmt.Errorf("encode row %d: %w", rows[i].ID, err)
		}
	}
	if c := b.Checkpoint(&rows[len(rows)-1]); c != nil {
		if err := enc.Encode(map[string]*Checkpoint{"checkpoint": c}); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}

// open opens the file, unless it is open and still the one with that name.
func (s *File) open() error {
	if s.file != nil {
		now, err := os.Stat(s.Path)
		if err == nil {
			if open, err := s.file.Stat(); err == nil && os.SameFile(now, open) {
				return nil
			}
		}
		_ = s.file.Close() // somebody else has taken it away: what it holds is synced
		s.file = nil
	}
	file, err := os.OpenFile(s.Path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	s.file = file
	if err := s.resume(); err != nil {
		return errors.Join(err, s.Close())
	}
	return nil
}

// resume finds the row that was written last.
func (s *File) resume() (err error) {
	if s.size, s.last, err = tailOf(s.file); err != nil {
		return fmt.Errorf("read the end of %s: %w", s.Path, err)
	}
	if err := s.file.Truncate(s.size); err != nil {
		return err
	}
	if s.size > 0 {
		return nil
	}
	renamed, err := s.renamed()
	if err == nil && len(renamed) > 0 {
		var old *os.File
		if old, err = os.Open(renamed[len(renamed)-1]); err == nil {
			_, s.last, err = tailOf(old)
			err = errors.Join(err, old.Close())
		}
	}
	return errors.Join(err, s.Files.SyncDir(filepath.Dir(s.Path)))
}

// tailOf returns the length of a file up to its last whole line, and the row that it
// tells of: none if it is no line of ours.
func tailOf(f *os.File) (size int64, last written, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, last, err
	}
	end := info.Size()
	for window := int64(64 << 10); ; window *= 8 {
		from := max(0, end-window)
		text := make([]byte, end-from)
		if _, err := f.ReadAt(text, from); err != nil && !errors.Is(err, io.EOF) {
			return 0, last, err
		}
		cut := bytes.LastIndexByte(text, '\n')
		begin := -1
		if cut >= 0 {
			begin = bytes.LastIndexByte(text[:cut], '\n')
		}
		if begin < 0 && from > 0 {
			continue // the last whole line begins further ahead
		}
		if cut < 0 {
			return 0, last, nil
		}
		if json.Unmarshal(text[begin+1:cut], &last) != nil {
			last = written{}
		}
		if c := last.Checkpoint; c != nil {
			last = written{Epoch: c.Epoch, ID: c.ID}
		}
		return from + int64(cut) + 1, last, nil
	}
}

// renamed returns the files that were full, oldest first.
func (s *File) renamed() ([]string, error) {
	entries, err := os.ReadDir(filepath.Dir(s.Path))
	if err != nil {
		return nil, err
	}
	var all []string
	for _, e := range entries {
		name := e.Name()
		if base := filepath.Base(s.Path) + "."; len(name) == len(base)+len(renamedAs) && name[:len(base)] == base {
			if _, err := time.Parse(renamedAs, name[len(base):]); err == nil {
				all = append(all, filepath.Join(filepath.Dir(s.Path), name))
			}
		}
	}
	slices.Sort(all)
	return all, nil
}

// renamedAs is what a file gets behind its name when it is full.
const renamedAs = "20060102T150405.000000Z"

// rotate renames the file, which is synced, begins another and removes the oldest.
func (s *File) rotate() error {
	if err := s.Close(); err != nil {
		return err
	}
	dir := filepath.Dir(s.Path)
	old, err := s.renamed()
	if err != nil {
		return err
	}
	at := time.Now().UTC()
	to := s.Path + "." + at.Format(renamedAs)
	if n := len(old); n > 0 && to <= old[n-1] { // the clock stood still or went back
		if before, err := time.Parse(renamedAs, old[n-1][len(s.Path)+1:]); err == nil {
			to = s.Path + "." + before.Add(time.Microsecond).Format(renamedAs)
		}
	}
	if err := s.Files.Rename(s.Path, to); err != nil {
		return err
	}
	if err := s.Files.SyncDir(dir); err != nil {
		return err
	}
	old = append(old, to)
	for s.Keep > 0 && len(old) > s.Keep {
		if err := os.Remove(old[0]); err != nil {
			return err
		}
		old = old[1:]
	}
	return s.open()
}

// Close closes the file. The next batch opens it again.
func (s *File) Close() error {
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	s.file = nil
	return err
}
