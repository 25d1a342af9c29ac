package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// historyTail is how much of the history is read first: its newest lines, of
// some 300 bytes each.
const historyTail = 64 << 10

// NewestCheckpoint returns the newest checkpoint kept in dir under this key, nil if
// there is none.
func NewestCheckpoint(dir string, signer *Signer) (*Checkpoint, error) {
	found, err := signer.newest(dir)
	return found.newest, err
}

// newest looks into the head file and the history. The head file is newer by up to
// a minute; but it is one file, and without the history its loss would let a log
// that was rolled back pass for a whole one.
func (s *Signer) newest(dir string) (slots, error) {
	found, err := s.readSlots(filepath.Join(dir, headFile))
	if err != nil {
		return slots{}, err
	}
	recorded, foreign, err := s.newestRecorded(filepath.Join(dir, historyFile))
	if err != nil {
		return slots{}, err
	}
	if recorded != nil && (found.newest == nil || recorded.ID > found.newest.ID) {
		found.newest = recorded
	}
	found.foreign = found.foreign || foreign && found.newest == nil
	return found, nil
}

// newestRecorded returns the newest valid checkpoint of the history, and whether
// another key signed one that was looked at. Lines that are torn, garbage or
// altered do not count.
func (s *Signer) newestRecorded(path string) (newest *Checkpoint, foreign bool, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read %s: %w", historyFile, err)
	}
	defer f.Close()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, false, fmt.Errorf("read %s: %w", historyFile, err)
	}
	for length := min(end, historyTail); ; length = end {
		text := make([]byte, length)
		if _, err := f.ReadAt(text, end-length); err != nil && !errors.Is(err, io.EOF) {
			return nil, false, fmt.Errorf("read %s: %w", historyFile, err)
		}
		newest, foreign = s.newestOf(text)
		if newest != nil || length == end {
			return newest, foreign, nil
		}
	}
}

func (s *Signer) newestOf(lines []byte) (newest *Checkpoint, foreign bool) {
	for line := range bytes.Lines(lines) {
		var c Checkpoint
		if json.Unmarshal(line, &c) != nil {
			continue
		}
		if !s.Valid(c) {
			foreign = foreign || c.Key != s.KeyID()
			continue
		}
		if newest == nil || c.ID > newest.ID {
			newest = &c
		}
	}
	return newest, foreign
}
