package worker

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/eiderdb/eider"
	"github.com/klauspost/compress/zstd"
)

// look finds out how the file is compressed, and reads all of one that is:
// DuckDB takes a compressed file that is cut for one that ends there.
func (in *importing) look(ctx context.Context) error {
	file, err := os.Open(in.path(inFile))
	if err != nil {
		return fmt.Errorf("open the file: %w", errors.Unwrap(err))
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if info.Size() == 0 && in.Format == FormatCSV {
		return eider.Errorf(eider.ImportFailed, "the file is empty")
	}
	head := make([]byte, 4)
	n, _ := io.ReadFull(file, head)
	head = head[:n]
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	in.compression = "none"
	if in.Format == FormatParquet {
		return nil
	}
	counted := &watchedFile{ctx: ctx, r: file, size: info.Size(), tell: in.progress}
	switch {
	case strings.HasPrefix(string(head), "\x1f\x8b"):
		in.compression = "gzip"
		z, err := gzip.NewReader(counted)
		if err == nil {
			_, err = io.Copy(io.Discard, z)
		}
		return wholeOrNot(ctx, err)
	case string(head) == "\x28\xb5\x2f\xfd":
		in.compression = "zstd"
		z, err := zstd.NewReader(counted, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return wholeOrNot(ctx, err)
		}
		defer z.Close()
		_, err = io.Copy(io.Discard, z)
		return wholeOrNot(ctx, err)
	}
	return nil
}

func wholeOrNot(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return eider.Errorf(eider.ImportFailed, "the compressed file is cut: it ends before its data does")
	}
	return eider.Errorf(eider.ImportFailed, "the compressed file is damaged")
}

// watchedFile is read until ctx ends, and tells how far it is.
type watchedFile struct {
	ctx        context.Context
	r          io.Reader
	read, size int64
	told       int64
	tell       func(fraction float64, rows int64)
}

// checkShare is how much of an import's progress is to read a compressed file.
const checkShare = 0.4

// insertShare is how much is done once the rows are in the table.
const insertShare = 0.9

func (w *watchedFile) Read(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := w.r.Read(p)
	w.read += int64(n)
	if w.read-w.told > w.size/100+1<<20 {
		w.told = w.read
		w.tell(checkShare*float64(w.read)/float64(w.size), 0)
	}
	return n, err
}
