package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// slotSize is the room of one of the two checkpoints in the head file: a sector
// of today's disks, so that a write that is torn by a power cut spoils one slot.
const slotSize = 4096

// slots is what the head file holds.
type slots struct {
	newest  *Checkpoint // that this key signed, nil if none
	at      int64       // the slot that it is in
	foreign bool        // one is signed by another key
}

// readSlots reads the head file. A slot that is torn, garbage or signed by
// another key does not count.
func (s *Signer) readSlots(path string) (slots, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return slots{}, nil
	}
	if err != nil {
		return slots{}, fmt.Errorf("read the newest checkpoint: %w", err)
	}
	var found slots
	for at := range int64(2) {
		slot := text[min(at*slotSize, int64(len(text))):min((at+1)*slotSize, int64(len(text)))]
		var c Checkpoint
		if json.Unmarshal(bytes.TrimSpace(slot), &c) != nil {
			continue
		}
		if !s.Valid(c) {
			found.foreign = found.foreign || c.Key != s.KeyID()
			continue
		}
		if found.newest == nil || c.ID > found.newest.ID {
			found.newest, found.at = &c, at
		}
	}
	return found, nil
}

// slotWriter overwrites the older of the two slots, so that the newest
// checkpoint that is whole is never the one being written. Choosing the slot by
// the id instead would hit the same one again and again where groups have an
// even number of rows.
type slotWriter struct {
	keeper   *Keeper
	file     *os.File
	last     Checkpoint
	slot     int64 // to be written next
	dirty    bool
	recorded int64
	failing  bool
}

// openSlots opens the head file and goes on behind its newest checkpoint.
func (k *Keeper) openSlots() (*slotWriter, error) {
	path := filepath.Join(k.dir, headFile)
	found, err := k.signer.readSlots(path)
	if err != nil {
		return nil, err
	}
	w := &slotWriter{keeper: k}
	if found.newest != nil {
		w.last, w.slot = *found.newest, 1-found.at
	}
	if w.file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, fmt.Errorf("open the checkpoint file: %w", err)
	}
	if err := syncFolder(k.dir); err != nil {
		return nil, fmt.Errorf("sync the checkpoint folder: %w", errors.Join(err, w.file.Close()))
	}
	return w, nil
}

func (w *slotWriter) write(h Head) {
	if h.ID <= w.last.ID {
		return
	}
	c := w.keeper.signer.Sign(h)
	text, err := json.Marshal(c)
	if err != nil {
		w.report(err)
		return
	}
	slot := append(text, bytes.Repeat([]byte{' '}, slotSize-len(text)-1)...)
	slot = append(slot, '\n')
	if _, err := w.file.WriteAt(slot, w.slot*slotSize); err != nil {
		w.report(err)
		return
	}
	w.last, w.slot, w.dirty = c, 1-w.slot, true
}

func (w *slotWriter) sync() {
	if !w.dirty {
		return
	}
	w.dirty = false
	if err := w.file.Sync(); err != nil {
		// The kernel drops what it could not write and calls it clean, so a second
		// sync would succeed and mean nothing: the checkpoint is written anew.
		w.last = Checkpoint{}
		w.report(err)
		return
	}
	w.failing = false
}

// record appends the newest checkpoint to the history and to the log, from
// where it may leave the machine.
func (w *slotWriter) record() {
	if w.last.ID == w.recorded {
		return
	}
	text, err := json.Marshal(w.last)
	if err != nil {
		w.report(err)
		return
	}
	if err := appendLine(filepath.Join(w.keeper.dir, historyFile), text); err != nil {
		w.report(err)
		return
	}
	w.recorded = w.last.ID
	w.keeper.log.Info("audit checkpoint", "id", w.last.ID, "epoch", w.last.Epoch, "hash", w.last.Hash, "key", w.last.Key, "signature", w.last.Signature)
}

// appendLine appends a line and syncs the file. A crash may have left half a
// line at its end, which must not swallow this one.
func appendLine(path string, line []byte) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	info, err := f.Stat()
	if err == nil && info.Size() > 0 {
		var last [1]byte
		if _, err = f.ReadAt(last[:], info.Size()-1); last[0] != '\n' {
			line = append([]byte{'\n'}, line...)
		}
	}
	if err == nil {
		_, err = f.Write(line)
	}
	return errors.Join(err, f.Sync(), f.Close())
}

func (w *slotWriter) report(err error) {
	if !w.failing {
		w.keeper.log.Error("the audit checkpoint could not be kept", "error", err)
	}
	w.failing = true
}
