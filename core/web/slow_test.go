package web

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// drip is a client that takes so many bytes before each deadline, and at last none.
type drip struct {
	net.Conn
	takes []int
	loses bool // what it is sent of a file it may have read without sending it
	got   bytes.Buffer
}

func (d *drip) SetWriteDeadline(time.Time) error { return nil }

func (d *drip) Write(p []byte) (int, error) {
	n := 0
	if len(d.takes) > 0 {
		n, d.takes = min(d.takes[0], len(p)), d.takes[1:]
	}
	d.got.Write(p[:n])
	if n < len(p) {
		return n, &net.OpError{Op: "write", Err: os.ErrDeadlineExceeded}
	}
	return n, nil
}

func (d *drip) ReadFrom(r io.Reader) (int64, error) {
	limited := r.(*io.LimitedReader)
	if d.loses {
		p, _ := io.ReadAll(limited)
		n, err := d.Write(p)
		return int64(n), err
	}
	n := int64(0)
	if len(d.takes) > 0 {
		n, d.takes = min(int64(d.takes[0]), limited.N), d.takes[1:]
	}
	full := n == limited.N
	_, _ = io.CopyN(&d.got, limited, n)
	if !full {
		return n, os.ErrDeadlineExceeded
	}
	return n, nil
}

// A client may be slow for as long as it likes: it may not stop.
func TestOnlyAClientThatStopsIsCut(t *testing.T) {
	const text = "0123456789abcdefghij"
	for _, c := range []struct {
		takes []int
		cut   bool
		got   string
	}{
		{[]int{3, 1, 1, 100}, false, text},
		{[]int{100}, false, text},
		{[]int{3, 5}, true, text[:8]},
		{nil, true, ""},
	} {
		for how, send := range map[string]func(*conn) (int64, error){
			"write": func(c *conn) (int64, error) { n, err := c.Write([]byte(text)); return int64(n), err },
			"file":  func(c *conn) (int64, error) { return c.ReadFrom(io.LimitReader(strings.NewReader(text), 20)) },
		} {
			d := &drip{takes: c.takes}
			n, err := send(&conn{Conn: d, owner: &listener{writeTimeout: time.Second}})
			if (err != nil) != c.cut || n != int64(len(c.got)) || d.got.String() != c.got {
				t.Errorf("%s of %v: %d bytes, %q, %v", how, c.takes, n, d.got.String(), err)
			}
		}
	}
	// What was read and not sent would be missing in what follows.
	d := &drip{takes: []int{3, 100}, loses: true}
	if n, err := (&conn{Conn: d, owner: &listener{writeTimeout: time.Second}}).ReadFrom(io.LimitReader(strings.NewReader(text), 20)); n != 3 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d bytes, %v", n, err)
	}
}
