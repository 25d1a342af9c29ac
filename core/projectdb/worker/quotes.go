package worker

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"

	"github.com/eiderdb/eider"
)

// openQuote looks for the line in which a quote begins that nothing closes: DuckDB
// says of such a file only that it is no CSV. It is 0 if there is none, or the file
// is compressed.
func (in *importing) openQuote(ctx context.Context) (line int64, err error) {
	if in.compression != "none" || len(in.CSV.Quote) != 1 || len(in.CSV.Delimiter) != 1 {
		return 0, nil
	}
	file, err := os.Open(in.path(inFile))
	if err != nil {
		return 0, err
	}
	defer file.Close()
	quote, escape, delimiter := in.CSV.Quote[0], in.CSV.Escape, in.CSV.Delimiter[0]
	r := bufio.NewReaderSize(&watchedFile{ctx: ctx, r: file, size: 1, tell: func(float64, int64) {}}, 1<<16)
	now, opened, begins := int64(1), int64(0), true // a field
	for {
		c, err := r.ReadByte()
		if errors.Is(err, io.EOF) {
			return opened, nil
		}
		if err != nil {
			return 0, err
		}
		switch {
		case c == '\n':
			now++
			begins = true
		case opened > 0 && escape != "" && c == escape[0] && escape[0] != quote:
			_, _ = r.Discard(1) // at the end there is none
		case opened > 0 && c == quote:
			if next, _ := r.Peek(1); escape == in.CSV.Quote && len(next) == 1 && next[0] == quote {
				_, _ = r.Discard(1)
			} else {
				opened = 0
			}
		case opened == 0 && c == quote && begins:
			opened = now
		case opened == 0:
			begins = c == delimiter
		}
	}
}

// noCSV says what is wrong with a file of which DuckDB says that it is no CSV.
func (in *importing) noCSV(ctx context.Context) error {
	line, err := in.openQuote(ctx)
	switch {
	case err != nil:
		return err
	case line > 0:
		return eider.Errorf(eider.ImportFailed, "line %d: a quote is opened that nothing closes", line)
	}
	return eider.Errorf(eider.InvalidFormat, "the file is no CSV with this delimiter, quote and escape")
}
